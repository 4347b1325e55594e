"""Whole models' runs that nobody ran: made-up numbers that agree with each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reports.records import RunRecord, Span, run_record, write_record
from tests.reports.synthetic import synthetic_values

LAYERS, PROMPT, NEW = 3, 5, 4
SPANS_OF_LAYER = (
    ("norm", "attention_norm", 0, 90), ("quantize", "attention_input.quantize", 90, 150),
    ("linear", "q.simd", 150, 480), ("norm", "q.rope", 300, 330),
    ("store", "k.append.0", 330, 360), ("linear", "attention.0.scores", 480, 500),
    ("softmax", "attention.0.softmax", 500, 540), ("linear", "o.simd", 560, 600),
    ("linear", "gate.simd", 600, 900), ("activate", "activation", 900, 930),
    ("linear", "down.simd", 930, 1000),
)
MISMATCH = {
    "instruction": 12, "opcode": "SOFTMAX", "op": "layers.1.attention.0.softmax", "layer": 1,
    "iteration": 1, "element": [2, 5], "expected": 17, "got": 16, "cycle": 1540,
    "detail": "softmax beat 7: 0x10, not 0x11", "pass": "decode 6",
}


def ran(cycles: int, *, bit_exact: bool = True) -> dict[str, Any]:
    """What a pass that ran in RTL has."""
    return {"simulated": True, "bit_exact": bit_exact, "cycles": cycles,
            "latency_s": cycles / 2.5e8, "energy_j": cycles * 4e-8, "wall_s": cycles / 2e4,
            "beats": cycles // 7, "weight_bytes": cycles * 100, "others_busy": 0.25,
            "weights_arriving": 0.9}


def phase(rows: Sequence[dict[str, Any]], kind: str) -> dict[str, Any] | None:
    """Sums over the simulated passes of a kind."""
    own = [row for row in rows if row["simulated"] and row["name"].startswith(kind)]
    if not own:
        return None
    tokens = sum({row["first"]: row["tokens"] for row in own}.values())
    seconds, joules, wall_s = (sum(row[key] for row in own)
                               for key in ("latency_s", "energy_j", "wall_s"))
    return {"passes": len(own), "tokens": tokens, "cycles": sum(row["cycles"] for row in own),
            "latency_s": seconds, "tokens_per_s": tokens / seconds, "energy_j": joules,
            "tokens_per_j": tokens / joules, "wall_s": wall_s, "wall_s_per_token": wall_s / tokens,
            "weight_bytes": sum(row["weight_bytes"] for row in own)}


def pass_rows(sample_layers: Sequence[int] | None) -> list[dict[str, Any]]:
    """One prefill and the decode passes behind it; cut by layers where some are sampled."""
    rows: list[dict[str, Any]] = []
    for first, tokens in [(0, PROMPT), *((PROMPT + number, 1) for number in range(NEW - 1))]:
        name = f"decode {first}" if first else f"prefill 0:{PROMPT}"
        cycles = 3000 + 700 * (tokens - 1) + 10 * first
        token = 262 + first
        if sample_layers is None:
            rows.append({"name": name, "first": first, "tokens": tokens, "layer": None,
                         "token": token, **ran(cycles + 1000)})
            continue
        for part in ("embedding", *range(LAYERS), "head"):
            layer = part if isinstance(part, int) else None
            rows.append({
                "name": f"{name} {part if layer is None else f'layer {layer}'}", "first": first,
                "tokens": tokens, "layer": layer, "simulated": layer in sample_layers,
                "token": token if part == "head" else None,
                **(ran(cycles // LAYERS) if layer in sample_layers else {}),
            })
    return rows


def decoder_spans(start: int) -> list[dict[str, Any]]:
    """Instructions of a pass through all layers, from cycle ``start`` on."""
    return [
        {"engine": engine, "name": name if name == "attention.0.softmax" else
         f"layers.{layer}.{name}", "start_cycle": start + 1000 * layer + first,
         "end_cycle": start + 1000 * layer + last}
        for layer in range(LAYERS) for engine, name, first, last in SPANS_OF_LAYER
    ] + [{"engine": "linear", "name": "head.simd", "start_cycle": start + 3000,
          "end_cycle": start + 3900}]


def decoder_values(
    sample_layers: Sequence[int] | None = None, **changes: Any
) -> dict[str, Any]:
    """A whole result of a decoder; ``changes`` replaces keys."""
    rows = pass_rows(sample_layers)
    cycles = sum(row.get("cycles", 0) for row in rows)
    linear, weights = int(cycles * 0.86), int(cycles * 0.7)
    values = synthetic_values("simd-w4a8", cycles, parts=["decoder"], layers=f"0:{LAYERS}",
                              accuracy=[])
    values |= {
        "kind": "decoder", "passes": rows, "token_ids": [row["token"] for row in rows
                                                         if row["token"] is not None],
        "text": " Paris.", "prompt_tokens": [504, 3575, 282, 4649, 314], "new_tokens": NEW,
        "capacity": 64, "simulated_layers": sample_layers,
        "scope": "every pass ran in RTL" if sample_layers is None else
        f"layers {', '.join(map(str, sample_layers))} ran in RTL; the others are golden's",
        "failed_pass": None, "resumed_passes": 1, "golden_wall_s": 1.5,
        "prefill": phase(rows, "prefill"), "decode": phase(rows, "decode"),
        "overlap": {
            "linear_cycles": linear, "linear_beside_others_cycles": linear // 4,
            "weight_cycles": weights, "weight_beside_linear_cycles": weights - 9,
            "others_busy": 0.25, "weights_arriving": (weights - 9) / linear,
            "weights_beside_linear": 1 - 9 / weights, "prefetched_words": 4321,
        },
        "timeline": [{"pass": "prefill 0:5", "start_cycle": 0, "cycles": 6800},
                     {"pass": "decode 5", "start_cycle": 6800, "cycles": 4050}],
        "residual": {"scale": 2.0**-13, "peak": 23593.5, "headroom": 11.11},
        "memory_map": [
            {"section": name, "address": 100_000 * place, "bytes": 100_000}
            for place, name in enumerate((
                "header", "token slots", "scratch", "embedding", "rotations.0", "head.simd[0:8]",
                "head_input.quantize.factors", "layers 0-2", "cache", "program"))
        ],
    }
    return {**values, **changes}


def synthetic_decoder(
    folder: Path, sample_layers: Sequence[int] | None = None, **changes: Any
) -> RunRecord:
    """Write a finished run of a decoder into ``folder``, with its build.json."""
    folder.mkdir(parents=True, exist_ok=True)
    build = {"prompt": "The capital of France is", "function_errors": {"activation": 3.4e-4}}
    values = decoder_values(sample_layers, **changes)
    spans = [span for place in values["timeline"] for span in decoder_spans(place["start_cycle"])]
    (folder / "build.json").write_text(json.dumps(build))
    record = run_record(folder, values, spans, build)
    write_record(record)
    return record


def failed_decoder(folder: Path) -> RunRecord:
    """A run whose second decode pass differs, so that the last one was not reached."""
    rows = pass_rows(None)
    rows[2]["bit_exact"] = False
    rows[3] = {key: rows[3][key] for key in ("name", "first", "tokens", "layer")}
    rows[3] |= {"simulated": False, "token": None}
    return synthetic_decoder(folder, passes=rows, token_ids=[262, 267], bit_exact=False,
                             failed_pass="decode 6", first_mismatch=MISMATCH, text=None)


def span(engine: str, name: str, start: int, end: int) -> Span:
    """A span in few words."""
    return Span(engine=engine, name=name, start_cycle=start, end_cycle=end)
