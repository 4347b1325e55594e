"""What skipped positions save and cost: ``python tests/verify/measure_sparsity.py``.

A decode step of SmolLM2-135M's first layer runs in RTL with every linear under ``rowgen-2bit``,
dense and at several sparsities; every write is compared with golden. Then the whole model is
evaluated with float linears whose inputs are dropped at the same sparsities, so that the difference
is theirs alone. Exits 1 when a write differs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from compiler.decoder.build import DecoderCompiler
from compiler.decoder.quantize import quantize_decoder
from compiler.frontends.load import load_model, load_tokenizer
from compiler.image.image import write_atomically
from compiler.quant.scheme import RowgenScheme, SchemeMap, load_scheme
from compiler.text import CALIBRATION_TEXT
from hw.presets import load_hardware
from lutrip.evaluation import Evaluator
from sim.circuit import circuit
from sim.costs import Costs
from sim.counters import lookups, weight_bytes
from sim.decoder import DecoderRun, GoldenPasses
from sim.decoder_build import open_build
from sim.passes import DECODE, PassFile
from sim.runner import simulate_passes

MODEL, HARDWARE, SCHEME = "smollm2-135m", "sim", "rowgen-2bit"
SPARSITIES = (None, 0.0, 0.2, 0.4, 0.6, 0.8)
"""None: dense; 0: positions whose int8 activations are all 0."""
PROMPT = "The capital of France is"
EVALUATED, CALIBRATED = 1024, 1024
SCORES = ("perplexity", "perplexity_float", "relative", "kl_divergence_nats", "top1_agreement")


def scheme_at(sparsity: float | None) -> SchemeMap:
    """The scheme with positions skipped."""
    default = load_scheme(SCHEME).default
    assert isinstance(default, RowgenScheme)
    if sparsity is not None:
        default = dataclasses.replace(default, skip_zeros=True, sparsity=sparsity)
    return SchemeMap(name=f"{SCHEME}-{sparsity}", default=default)


def decode_step(sparsity: float | None, folder: Path, build_dir: Path) -> dict[str, Any]:
    """The first layer of the first decode step in RTL, golden for all before it."""
    hardware, tokenizer = load_hardware(HARDWARE), load_tokenizer(MODEL)
    model = load_model(MODEL)
    single = dataclasses.replace(
        model, architecture=dataclasses.replace(model.architecture, layers=1))
    prompt = tokenizer.encode(PROMPT)
    decoder = quantize_decoder(single, scheme_at(sparsity), hardware,
                               tokenizer.encode(CALIBRATION_TEXT), capacity=len(prompt) + 1)
    path = folder / str(sparsity)
    DecoderCompiler(decoder, prompt, 2, split_layers=True).write(
        path, {"model": MODEL, "scheme": decoder.scheme})
    build = open_build(path)
    chosen = [item for item in build.passes if item.kind == DECODE and item.layer == 0]
    run = DecoderRun(build.passes, chosen, PassFile(path / "step.jsonl", ""), resume=False)
    sources = circuit(hardware, build_dir, print)

    def simulate(jobs: Any, running: Any, finished: Any) -> None:
        simulate_passes(sources, hardware, path / "image.bin", jobs, path / "simulation",
                        build_dir=build_dir / "sim", running=running, finished=finished)

    run.run(GoldenPasses(build.memory, hardware), simulate)
    (record,) = run.records.values()
    counters = record.counters
    return {
        "sparsity": sparsity, "bit_exact": record.bit_exact, "cycles": record.cycles,
        "linear_cycles": counters["busy_linear"], "skipped_positions": counters["skipped_rows"],
        "weight_bytes": weight_bytes(counters, hardware), "lookups": lookups(counters, hardware),
        "joules": Costs(hardware).energy(counters).total.value,
    }


def accuracies(work: Path) -> list[dict[str, Any]]:
    """Perplexity of golden with float linears, inputs dropped at each sparsity."""
    evaluator = Evaluator(MODEL, HARDWARE, tokens=EVALUATED, calibration_tokens=CALIBRATED,
                          fixed_point_only=True, work=work)
    rows = []
    for sparsity in SPARSITIES[1:]:
        scheme = work / f"sparsity-{sparsity}.yaml"
        scheme.parent.mkdir(parents=True, exist_ok=True)
        scheme.write_text(f"kind: rowgen\nskip_zeros: true\nsparsity: {sparsity}\n")
        made = evaluator.run(str(scheme), lambda text: print(text, flush=True))
        rows.append({"sparsity": sparsity, **{key: made[key] for key in SCORES}})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> int:
    """Measure; a part that is not asked for stays in the file as it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", default=("steps", "accuracy"))
    parser.add_argument("--runs", type=Path, default=Path("runs/sparsity"))
    parser.add_argument("--build-dir", type=Path, default=Path("build"))
    parser.add_argument("--out", type=Path, default=Path("docs/measured/sparsity.json"))
    arguments = parser.parse_args()
    result: dict[str, Any] = {}
    if arguments.out.is_file():
        result = json.loads(arguments.out.read_text())
    result |= {"command": "python tests/verify/measure_sparsity.py", "model": MODEL,
               "hardware": HARDWARE}
    if "steps" in arguments.parts:
        result["decode_step"] = {"scheme": SCHEME, "what": "layer 0 of one decode step",
                                 "steps": []}
        for sparsity in SPARSITIES:
            row = decode_step(sparsity, arguments.runs, arguments.build_dir)
            result["decode_step"]["steps"].append(row)
            print(json.dumps(row), flush=True)
    if "accuracy" in arguments.parts:
        result["accuracy"] = {
            "what": "golden with float linears, sparsity in every linear", "tokens": EVALUATED,
            "calibration_tokens": CALIBRATED, "rows": accuracies(arguments.runs / "accuracy")}
    write_atomically(arguments.out, (json.dumps(result, indent=1) + "\n").encode())
    steps = result.get("decode_step", {}).get("steps", [])
    return 0 if all(row["bit_exact"] for row in steps) else 1


if __name__ == "__main__":
    sys.exit(main())
