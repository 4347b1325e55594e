"""Mixes of schemes: measured, solved for a budget or a front, written as scheme files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compiler.calibration_text import (
    Excerpt,
    calibration_excerpt,
    check_apart,
    default_calibration,
    excerpt,
)
from compiler.decoder.quantize import WINDOW
from compiler.frontends.load import load_model, load_tokenizer
from compiler.image.image import write_atomically
from compiler.mixed.costs import CYCLES, read_bytes
from compiler.mixed.counters import Timing
from compiler.mixed.measure import Question, measure
from compiler.mixed.mixes import CostOf, mix_yaml, problem_of, shared_options
from compiler.mixed.solver import Problem, Selection, front, solve
from compiler.quant.scheme import SchemeMap, load_scheme
from hw.config import HardwareConfig
from hw.errors import LutripError
from hw.presets import load_hardware
from hw.resources import load_device, total
from lutrip.evaluation import Evaluator
from lutrip.options import write_json
from reports.front import front_figure
from sim.energy import EVENTS, event_energy
from sim.energy_table import load_energy

COSTS = {"bytes": "B", "cycles": "cycles", "energy": "J"}
"""What a budget may be of, and its unit."""
NEWS_FIRST = 64 * WINDOW
"""First token of the news corpus that sensitivities are measured on: behind calibration's."""
RESULT, FIGURE, WORK = "front.json", "front.svg", "measured"

Say = Callable[[str], None]


def energy_of(config: HardwareConfig) -> CostOf:
    """Joules of counters: events, clock and static power, as `sim.energy` counts them."""
    device = load_device(config.device)
    table = load_energy(device.energy, config.device)
    loads = table["clock_loads_per_ff"] * total(config).ff * table["clock_enable"]
    power = sum((table[name].value for name in ("static", "memory_background", "processor")), 0.0)
    cycle = (table["clock_load_cycle"] * loads).value + power / (config.clock_mhz * 1e6)
    joules = [(event.counter, event_energy(event, table, config).value) for event in EVENTS]

    def cost(counters: Mapping[str, float]) -> float:
        events = sum(
            unit * value for counter, unit in joules for name, value in counters.items()
            if name == counter or (counter.endswith("_") and name.startswith(counter)))
        return events + cycle * counters.get(CYCLES, 0)

    return cost


def cost_function(cost: str, config: HardwareConfig) -> CostOf:
    """One of `COSTS`, as a function of counters."""
    if cost == "bytes":
        return lambda counters: read_bytes(counters, config)
    if cost == "cycles":
        return lambda counters: counters.get(CYCLES, 0)
    if cost == "energy":
        return energy_of(config)
    raise LutripError(f"a cost must be {', '.join(COSTS)}, not {cost!r}")


@dataclass(frozen=True, kw_only=True)
class Texts:
    """What a mix is measured on: calibration, other text for the sensitivities, and a third part.

    evaluated: first window of the text that is evaluated.
    """

    source: str
    calibration: Excerpt
    unseen: Excerpt
    evaluated: int


def texts_of(
    model: str, source: str, calibration: str | None, calibration_tokens: int, unseen_tokens: int
) -> Texts:
    """Parts of a text that do not overlap; raises LutripError in one line where it is too short."""
    tokenizer = load_tokenizer(model)
    first = NEWS_FIRST if source == "news" else 0
    unseen = excerpt(tokenizer, source, first, unseen_tokens)
    if len(unseen.ids) < unseen_tokens:
        raise LutripError(f"text {source} has {len(unseen.ids)} tokens for the sensitivities, "
                          f"fewer than the {unseen_tokens} asked for; give a longer --text")
    chosen = calibration or default_calibration(unseen)
    calibrated = calibration_excerpt(tokenizer, chosen,
                                     None if chosen == "builtin" else calibration_tokens)
    check_apart(unseen, calibrated)
    return Texts(source=source, calibration=calibrated, unseen=unseen,
                 evaluated=0 if first else -(-unseen_tokens // WINDOW))


def written_name(name: str) -> str:
    """How a mix names a candidate: the name, or the whole path of a file."""
    is_file = name.endswith((".yaml", ".yml")) or "/" in name
    return os.fspath(Path(name).resolve()) if is_file else name


def spread_over(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` places of ``count``, evenly spread, both ends included."""
    if wanted >= count:
        return list(range(count))
    if wanted == 1:
        return [count // 2]
    return sorted({round(i * (count - 1) / (wanted - 1)) for i in range(wanted)})


def mix(
    model: str, hardware: str, candidates: Sequence[str], out: Path, *, cost: str = "bytes",
    budget: float | None = None, points: int = 8, tokens: int = 1, sensitivity: str = "output",
    text: str = "news", unseen_tokens: int = 256, calibration: str | None = None,
    calibration_tokens: int = 4 * WINDOW, evaluate: int = 0, evaluate_single: bool = False,
    evaluate_tokens: int = 4096, timing: Timing | None = None,
    progress: Say = lambda text: None,
) -> dict[str, Any]:
    """Choose a scheme for every linear of every layer; returns and writes ``front.json``.

    candidates: schemes by name or file. cost: of `COSTS`, in a pass of ``tokens`` tokens. budget:
    one mix that costs at most that; else a front of ``points`` mixes. sensitivity: output or
    trace (`compiler.mixed.sensitivity`). evaluate: how many of the mixes are evaluated on golden,
    evaluate_single: also the candidates alone. What was measured before in ``out`` is taken over.
    Raises LutripError in one line for anything wrong with the inputs.
    """
    config, loaded = load_hardware(hardware), load_model(model)
    cost_of = cost_function(cost, config)
    schemes = {name: load_scheme(name) for name in dict.fromkeys(candidates)}
    if not schemes:
        raise LutripError("a mix needs at least one candidate scheme")
    options = shared_options(schemes)
    parts = texts_of(model, text, calibration, calibration_tokens, unseen_tokens)
    measured = measure(Question(
        model=loaded, hardware=config, options=options,
        candidates={name: scheme.default for name, scheme in schemes.items()},
        calibration=parts.calibration.ids, unseen=parts.unseen.ids, tokens=tokens,
        timing=timing or Timing()), out / WORK, progress)
    progress("solving")
    problem = problem_of(measured, sensitivity, cost_of)
    found = [solve(problem, budget)] if budget is not None else front(problem, points)
    rows = _write_mixes(found, options, out, f"{model} on {hardware}, {cost}")
    singles = [_single(problem, name) for name in schemes]
    if evaluate or evaluate_single:
        evaluator = Evaluator(
            model, hardware, text=text, tokens=evaluate_tokens, first_window=parts.evaluated,
            calibration=calibration, calibration_tokens=len(parts.calibration.ids))
        chosen = [rows[place] for place in spread_over(len(rows), evaluate)] if evaluate else []
        for row in [*chosen, *(singles if evaluate_single else [])]:
            row["measured"] = evaluated(evaluator, row, out, progress)
    values = {
        "model": model, "hardware": config.name, "cost": cost, "unit": COSTS[cost],
        "tokens": tokens, "sensitivity": sensitivity, "candidates": list(schemes),
        "calibration": parts.calibration.facts(), "unseen": parts.unseen.facts(),
        "budget": budget, "single": singles, "points": rows,
    }
    write_json(out / RESULT, values)
    front_figure(values).savefig(out / FIGURE)
    return values


def evaluated(
    evaluator: Evaluator, row: Mapping[str, Any], out: Path, progress: Say
) -> dict[str, Any]:
    """What golden says about a mix or a candidate."""
    name = str(out / row["file"]) if "file" in row else row["scheme"]
    values = evaluator.run(name, lambda said: progress(f"{row['scheme']}: {said}"),
                           lambda done, total: progress(
                               f"{row['scheme']}: golden {done} of {total}"))
    keys = ("perplexity", "perplexity_float", "relative", "kl_divergence_nats", "bits_per_weight")
    return {key: values[key] for key in keys}


def _write_mixes(
    found: Sequence[Selection], options: SchemeMap, out: Path, title: str
) -> list[dict[str, Any]]:
    """Scheme files of the mixes, and their rows in the result."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("mix-*.yaml"):
        old.unlink()
    rows = []
    for number, point in enumerate(found, 1):
        name = f"mix-{number}"
        chosen = {(int(place[0]), str(place[1])): candidate
                  for place, candidate in point.chosen.items() if isinstance(place, tuple)}
        text = mix_yaml(chosen, options, f"{title} {point.cost:,.6g}, predicted loss "
                        f"{point.loss:.4g} nats per token.", written_name)
        write_atomically(out / f"{name}.yaml", text.encode())
        rows.append({
            "scheme": name, "file": f"{name}.yaml", "cost": point.cost,
            "predicted_loss": point.loss, "linears": dict(Counter(chosen.values())),
            "measured": None})
    return rows


def _single(problem: Problem, name: str) -> dict[str, Any]:
    """Row of a candidate alone."""
    point = problem.selection(dict.fromkeys(problem.linears, name))
    return {"scheme": name, "cost": point.cost, "predicted_loss": point.loss, "measured": None}
