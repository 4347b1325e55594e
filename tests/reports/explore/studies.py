"""A small study that runs in moments, and variations of it."""

from __future__ import annotations

from pathlib import Path

from reports.explore.study import Study, load_study

TEXT = """\
title: small
question: What is best?
model: shape:tiny
workloads:
  - {name: short, prefill: 6, decode: 4, weight: 3}
  - {prefill: 12, decode: 2}
hardware: tiny
scheme: simd-w4a8-tiny
parameters:
  scheme.attention: [simd-w4a8-tiny, simd-w8a8-tiny]
  hardware.clock_mhz: {from: 50, to: 200, factor: 2}
  scheme.mlp: [simd-w4a8-tiny, simd-w8a8-tiny, rowgen-2bit]
  memory: [ideal, ddr4-kv260]
constraints:
  ports: {max: 8}
objectives: [time_per_token_s, energy_per_token_j, lut]
search: {batch: 8}
confirm: {designs: 1, layers: 1, prefill: 2, decode: 1}
"""


def write(folder: Path, text: str = TEXT, name: str = "small.yaml") -> Path:
    """A study file."""
    path = folder / name
    path.write_text(text)
    return path


def small(folder: Path, *changes: tuple[str, str]) -> Study:
    """The small study with parts of its text replaced."""
    text = TEXT
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return load_study(str(write(folder, text)))
