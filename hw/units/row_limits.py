"""Longest rows of the engines that keep the parameters of a row on chip."""

from __future__ import annotations

from hw.config import HardwareConfig

NORM_DEPTH = 1024
ROPE_DEPTH = 64


def norm_words_max(config: HardwareConfig) -> int:
    """Most vector words of a NORM row: a power of two, at most 1024 and half the vector memory."""
    return min(NORM_DEPTH, 1 << ((config.vector_words // 2).bit_length() - 1))


def rope_words_max(config: HardwareConfig) -> int:
    """Most vector words of a ROPE row: `norm_words_max`, at most 64 (256 elements or more)."""
    return min(ROPE_DEPTH, norm_words_max(config))
