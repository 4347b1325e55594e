"""A real (small) model's block, compiled end to end."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from compiler.accuracy import relative_error, unordered
from compiler.build import compile_block, load_build, write_build
from compiler.errors import CompileError
from compiler.frontends.load import load_model
from compiler.quant.scheme import Lut2dScheme, RowgenScheme, SchemeMap, SimdScheme
from hw.presets import load_hardware
from sim.functional import run_image

TINY = load_hardware("tiny")
LUT = Lut2dScheme(name="lut", act_codes=8, group_columns=64)
GATHER = dataclasses.replace(LUT, name="gather", gather=True)
ROWGEN = RowgenScheme(name="rowgen", weight_codes=64, group_columns=64)
W4A8 = SimdScheme(name="w4a8", group=32)
W4A4 = dataclasses.replace(W4A8, name="w4a4", act_bits=4)
W8A8 = dataclasses.replace(W4A8, name="w8a8", weight_bits=8)
TEXT = list(range(40, 90))


def compiled(scheme, **changes):
    options = {"layers": (0, 1), "tokens": TEXT[:5], "calibration": TEXT[5:], **changes}
    return compile_block(load_model("shape:tiny"), scheme, TINY, **options)


@pytest.mark.parametrize(("scheme", "worst"), [
    (SchemeMap(name="gather", default=GATHER), 1.2),
    (SchemeMap(name="rowgen", default=ROWGEN), 0.2),
    (SchemeMap(name="w8a8", default=W8A8), 0.05),
    (SchemeMap(name="mix", default=W4A8, layers={"gate": LUT, "up": ROWGEN, "down": W4A4}), 1.0),
], ids=lambda value: getattr(value, "name", ""))
def test_block(scheme, worst, tmp_path):
    build = compiled(scheme)
    write_build(build, tmp_path)
    build = load_build(tmp_path)
    result = run_image(build.image.data, build.hardware, build.image.program_address)
    outputs = build.outputs(result.memory)
    assert {name: y.shape for name, y in outputs.items()} == {
        f"layers.0.{name}": (5, build.metadata["linears"][f"layers.0.{name}"]["shape"][0])
        for name in ("q", "k", "v", "o", "down")}
    errors = build.metadata["relative_error"]
    assert set(errors) == {f"layers.0.{name}" for name in
                           ("q", "k", "v", "o", "gate", "up", "down", "mlp")}
    assert 0 < max(errors.values()) < worst
    assert build.metadata["linears"]["layers.0.down"]["scheme"] == scheme.of("down", 0).name


def test_projections_of_two_layers_are_deterministic():
    scheme = SchemeMap(name="w8a8", default=W8A8)
    build = compiled(scheme, parts={"qkvo"}, layers=(0, 2))
    assert set(build.metadata["outputs"]) == {
        f"layers.{layer}.{name}" for layer in (0, 1) for name in "qkvo"}
    again = compiled(scheme, parts={"qkvo"}, layers=(0, 2))
    assert again.image == build.image
    assert again.metadata == build.metadata


def test_unknown_parts_and_layers():
    scheme = SchemeMap(name="w8a8", default=W8A8)
    with pytest.raises(CompileError, match=r"^parts must be some of qkvo, mlp, not attention$"):
        compiled(scheme, parts={"attention"})
    with pytest.raises(CompileError, match=r"^parts must be some of qkvo, mlp, not none$"):
        compiled(scheme, parts=set())
    with pytest.raises(CompileError, match=r"^layers 1:99 are not in the model's 0:\d+$"):
        compiled(scheme, layers=(1, 99))


def test_relative_error_and_order():
    x = np.array([[3.0, 4.0]], np.float32)
    assert relative_error(x, x) == 0
    assert relative_error(np.zeros_like(x), x) == 1
    steps = np.array([[5, 0, 7]], np.int16)
    assert unordered(steps, np.array([1, -1, 0]), 2.0).tolist() == [[14.0, 10.0]]
