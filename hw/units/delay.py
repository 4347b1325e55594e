"""Delay lines that keep side information level with a pipeline."""

from __future__ import annotations

from typing import Any

from amaranth import Module, Signal


def delayed(m: Module, value: Any, cycles: int, name: str, *, reset_less: bool = True) -> Any:
    """``value`` of ``cycles`` cycles ago; valid bits should take ``reset_less=False``."""
    for cycle in range(cycles):
        stage = Signal(value.shape(), name=f"{name}_{cycle + 1}", reset_less=reset_less)
        m.d.sync += stage.eq(value)
        value = stage
    return value
