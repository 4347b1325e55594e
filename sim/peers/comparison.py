"""One product in every tool, and what the figures say beside each other."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from hw.config import HardwareConfig
from sim.peers.gemm import Gemm, array_multipliers

BUFFER_KB = 256
"""Each of SCALE-Sim's three buffers; it runs without memory stalls, so this moves no cycle."""


def array_shape(hardware: HardwareConfig) -> tuple[int, int]:
    """Rows and columns of the squarest systolic array with as many multipliers as the hardware."""
    multipliers = array_multipliers(hardware)
    columns = 1 << (multipliers.bit_length() - 1) // 2
    return multipliers // columns, columns


def dataflow_cycles(gemm: Gemm, rows: int, columns: int) -> dict[str, int]:
    """Cycles of each dataflow of a systolic array, by the formulas of SCALE-Sim (1811.02883)."""
    def folds(down: int, across: int) -> int:
        return -(-down // rows) * -(-across // columns)

    edge = 2 * rows + columns - 2
    return {
        "os": folds(gemm.tokens, gemm.columns) * (gemm.inputs + rows + columns - 2),
        "ws": folds(gemm.inputs, gemm.columns) * (gemm.tokens + edge),
        "is": folds(gemm.inputs, gemm.tokens) * (gemm.columns + edge),
    }


def job_of(gemm: Gemm, hardware: HardwareConfig) -> dict[str, Any]:
    """What the peers' runners are told; the dataflow is the one with fewest cycles."""
    rows, columns = array_shape(hardware)
    cycles = dataflow_cycles(gemm, rows, columns)
    return {
        "name": gemm.name, "tokens": gemm.tokens, "inputs": gemm.inputs, "columns": gemm.columns,
        "rows": rows, "array_columns": columns, "buffer_kb": BUFFER_KB,
        "bandwidth": hardware.weight_ports * hardware.port_bytes,
        "dataflow": min(cycles, key=lambda name: cycles[name]),
    }


def row_of(
    gemm: Gemm, job: Mapping[str, Any], model: Mapping[str, Any], rtl: Mapping[str, Any],
    peers: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """One product: figures of every tool with rates, and ratios of processor time.

    A ratio is the peer's time over ours; ``model_error`` is the fast model's against the circuit.
    """
    def rated(values: Mapping[str, Any]) -> dict[str, Any]:
        return {**values, "macs_per_cpu_s": gemm.macs / values["cpu_s"]}

    ratios: dict[str, dict[str, float]] = {}
    for key, values in peers.items():
        ratios[key] = {
            "model_faster": values["cpu_s"] / model["cpu_s"],
            "model_faster_wall": values["wall_s"] / model["wall_s"],
            "rtl_faster": values["cpu_s"] / rtl["cpu_s"],
            "rtl_faster_wall": values["wall_s"] / rtl["wall_s"],
        }
    return {
        "name": gemm.name, "tokens": gemm.tokens, "inputs": gemm.inputs, "columns": gemm.columns,
        "macs": gemm.macs, "dataflow": job["dataflow"], "ratios": ratios,
        "model_error": model["cycles"] / rtl["cycles"] - 1, "bit_exact": rtl["bit_exact"],
        "model": rated(model), "rtl": rated(rtl),
        "peers": {key: rated(values) for key, values in peers.items()},
        "holds": bool(rtl["bit_exact"]) and all(
            ratio[name] > 1 for ratio in ratios.values()
            for name in ("model_faster", "model_faster_wall")),
    }


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Least, middle and largest ratios by peer, and the fast model's errors."""
    result: dict[str, Any] = {}
    for key in rows[0]["ratios"]:
        result[key] = {}
        for name in rows[0]["ratios"][key]:
            found = [row["ratios"][key][name] for row in rows]
            result[key][name] = {
                "least": min(found), "geometric_mean": math.exp(statistics.fmean(
                    map(math.log, found))), "largest": max(found)}
    errors = [abs(row["model_error"]) for row in rows]
    return {**result, "model_mean_absolute_error": statistics.fmean(errors),
            "model_worst_absolute_error": max(errors),
            "bit_exact": all(row["bit_exact"] for row in rows),
            "all_hold": all(row["holds"] for row in rows)}
