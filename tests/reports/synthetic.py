"""Results of runs that nobody ran: the numbers are made up, but agree with each other."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from hw.presets import load_hardware
from hw.register_map import counters
from hw.resources import load_device, total
from reports.records import ENGINES, RunRecord, run_record, write_record

CAUSES = {
    "compute: search": 0.05, "compute: linear (lookup)": 0.13, "compute: drain": 0.0,
    "on-chip memory: table buffers": 0.05, "on-chip memory: accumulator": 0.03,
    "off-chip memory: reads": 0.14, "clock: clock tree": 0.22, "static: device leakage": 0.30,
    "static: HBM background": 0.08,
}
WORK = {"load": 0.02, "search": 0.35, "quantize": 0.1, "linear": 0.86, "drain": 0.12,
        "activate": 0.05, "store": 0.03, "norm": 0.08, "softmax": 0.06}


def synthetic_values(
    scheme: str = "lut2d", cycles: int = 120_000, **changes: Any
) -> dict[str, Any]:
    """A whole result; ``changes`` replaces keys."""
    config = load_hardware("sim")
    weights, tokens = 3_538_944, 8
    ports = {f"w{number}": 0.6 for number in range(config.weight_ports)}
    ports |= {"centroid": 0.2, "aux": 0.05, "write": 0.01}
    words = {port: int(cycles * share) for port, share in ports.items()}
    moved = sum(words.values()) * config.port_bytes
    energy = 30.0 * cycles / config.clock_mhz / 1e6
    resources = total(config)
    values = {
        "title": f"SmolLM2-135M layer 0, {scheme}", "model": "smollm2-135m", "scheme": scheme,
        "hardware": dataclasses.asdict(config), "configuration_hash": config.digest(),
        "layers": "0:1", "parts": ["qkvo", "mlp"], "tokens": tokens, "instructions": 61,
        "simulated": True, "simulator": "verilator 5.048", "status": "done", "errors": [],
        "bit_exact": True, "beats": {"search": 4000, "drain": 9000, "store": 1200},
        "first_mismatch": None, "cycles": cycles, "clock_mhz": config.clock_mhz,
        "latency_s": cycles / config.clock_mhz / 1e6,
        "tokens_per_s": tokens * config.clock_mhz * 1e6 / cycles,
        "energy_j": energy, "tokens_per_j": tokens / energy,
        "energy": {"table": "fpga-16nm", "causes": [
            {"cause": cause, "joules": energy * share, "low_joules": 0.65 * energy * share,
             "high_joules": 1.35 * energy * share, "provenance": "inferred from vendor reports"}
            for cause, share in CAUSES.items()
        ]},
        "engines": [
            {"engine": engine, "busy_cycles": int(cycles * WORK[engine]),
             "waiting_cycles": int(cycles * 0.1),
             "idle_cycles": cycles - int(cycles * WORK[engine]) - int(cycles * 0.1)}
            for engine in ENGINES
        ],
        "ports": [
            {"port": port, "words": count, "bytes": count * config.port_bytes,
             "bytes_per_cycle": count * config.port_bytes / cycles,
             "limit_bytes_per_cycle": config.port_bytes}
            for port, count in words.items()
        ],
        "counters": {name: 7 * index for index, name in enumerate(counters(config))},
        "memory": {"latency_cycles": 64, "bytes_per_cycle": 32, "outstanding": 16},
        "accuracy": [
            {"tensor": f"layers.0.{tensor}", "relative_error": 0.02 * (index + 1)}
            for index, tensor in enumerate(("q", "k", "v", "o", "gate", "up", "down"))
        ],
        "roofline": {
            "operations": weights * tokens, "bytes": moved,
            "operations_per_byte": weights * tokens / moved,
            "operations_per_cycle": weights * tokens / cycles,
            "peak_operations_per_cycle": 2 * config.positions * config.lanes,
            "bytes_per_cycle": config.weight_ports * config.port_bytes,
        },
        "resources": resources.rounded(), "device": config.device,
        "fits": load_device(config.device).fits(resources),
        "bits_per_weight": {"weights": 10.0, "centroids": 1.1},
        "lookups": weights * tokens // 2, "products": 0,
        "wall_s": 4.2, "cycles_per_wall_s": cycles / 4.2,
        "memory_map": [{"section": "program", "address": 0, "bytes": 1952},
                       {"section": "weights", "address": 0x1000, "bytes": 4_423_680}],
    }
    return {**values, **changes}


def synthetic_spans(cycles: int) -> list[dict[str, Any]]:
    """Six instructions on every engine, inside the run."""
    step = cycles // 8
    return [
        {"engine": engine, "name": f"{engine} {number}", "start_cycle": number * step + 90 * row,
         "end_cycle": number * step + 90 * row + int(step * WORK[engine])}
        for row, engine in enumerate(ENGINES) for number in range(6)
    ]


def synthetic_run(folder: Path, **changes: Any) -> RunRecord:
    """Write a finished run into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    values = synthetic_values(**changes)
    record = run_record(folder, values, synthetic_spans(values["cycles"]))
    write_record(record)
    return record


def synthetic_demo(folder: Path) -> list[RunRecord]:
    """Write a demo folder of two runs, the second with a mismatch."""
    miss = {"instruction": 12, "opcode": "DRAIN", "op": "layers.0.gate", "element": [1, 5],
            "expected": 17, "got": -3, "cycle": 60_123, "detail": "drain beat 7: 0x11, not 0xfd"}
    runs = [
        synthetic_run(folder / "lut2d"),
        synthetic_run(folder / "simd", scheme="simd-w4a8", cycles=90_000, bit_exact=False,
                      first_mismatch=miss, lookups=0, products=28_311_552,
                      bits_per_weight={"weights": 4.25, "centroids": 0.0}),
    ]
    summary = {"runs": [{"folder": run.path.name, **run.values} for run in runs],
               "all_bit_exact": False, "tiny": [
                   {"scheme": "rowgen-2bit", "bit_exact": True, "verilator_cycles": 4321,
                    "icarus_cycles": 4321, "equal": True},
                   {"scheme": "lut2d-tiny", "bit_exact": True, "verilator_cycles": 5432,
                    "icarus_cycles": None, "equal": True},
               ]}
    (folder / "summary.json").write_text(json.dumps(summary))
    return runs
