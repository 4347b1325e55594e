"""What a configuration does in a cycle at most: arithmetic, lookups, bytes."""

from __future__ import annotations

from collections.abc import Mapping

from hw.config import HardwareConfig

LOOKUP_STEPS = "lut_steps"
ARRAY_STEPS = {"simd_steps_w4a4": 2, "simd_steps_w4a8": 1, "simd_steps_w8a8": 1,
               "simd_steps_w8l4": 1}
"""Tokens of a step of the multiplier array."""


def lookup_ceiling(config: HardwareConfig) -> int:
    """Operations a cycle of the lookup lanes: a lookup stands for v multiply-adds."""
    return 2 * config.positions * config.lanes * config.vector_length


def array_ceiling(config: HardwareConfig, tokens: int = 1) -> int:
    """Operations a cycle of the multiplier array."""
    return 2 * config.lanes * config.simd_depth * tokens if config.simd else 0


def ceilings(counters: Mapping[str, int], config: HardwareConfig) -> dict[str, float]:
    """Ceilings of both, of the weight ports, and the parts of them that a run's counters reach."""
    cycles = max(1, counters["cycles"])
    modes = [tokens for name, tokens in ARRAY_STEPS.items() if counters[name]]
    steps = sum(counters[name] for name in ARRAY_STEPS)
    words = sum(counters[f"read_words_w{port}"] for port in range(config.weight_ports))
    return {
        "lookup_ceiling_operations_per_cycle": lookup_ceiling(config),
        "array_ceiling_operations_per_cycle": array_ceiling(config, max(modes, default=1)),
        "port_ceiling_bytes_per_cycle": config.weight_ports * config.port_bytes,
        "lookup_utilization": counters[LOOKUP_STEPS] / cycles,
        "array_utilization": steps / cycles,
        "port_utilization": words / (cycles * config.weight_ports),
    }
