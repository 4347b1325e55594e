"""A scheme as a model's file has it run."""

from __future__ import annotations

import dataclasses

import pytest

from compiler.frontends.load import load_model
from compiler.own_blocks import Blocks, NamedModel, as_stored, named_model, own_part
from compiler.quant.scheme import SimdScheme, load_scheme
from compiler.quant.simd import runs_native, weight_group

FOUR = Blocks(weight_bits=4, group=32, asymmetric=True)


def test_shapes_have_no_blocks():
    scheme = load_scheme("simd-w4a8")
    assert as_stored(named_model("shape:tiny"), scheme)[1] is scheme
    assert not named_model("shape:tiny").blocks


def test_blocks_replace_groups_where_they_run():
    part = SimdScheme(name="s")
    own = own_part(part, FOUR)
    assert own == dataclasses.replace(part, group=32, asymmetric=True, native_blocks=False)
    for other in (dataclasses.replace(part, native_blocks=False),
                  dataclasses.replace(part, weight_bits=8), load_scheme("rowgen-2bit").default):
        assert own_part(other, FOUR) is other
    assert own_part(part, None) is part


def test_layers_that_are_alike_are_one_key(monkeypatch):
    architecture = dataclasses.replace(named_model("shape:tiny").architecture, layers=4)
    blocks = {("q", layer): FOUR for layer in range(4)} | {("down", 2): FOUR}
    scheme = load_scheme("simd-w4a8")
    stored = as_stored(NamedModel(architecture, blocks), scheme)[1]
    assert [key for key in stored.layers if key.endswith((".q", "q"))] == ["q"]
    assert [key for key in stored.layers if key.endswith("down")] == [
        "0-1.down", "2-2.down", "3-3.down"]
    for linear in architecture.linears:
        for layer in range(4):
            assert stored.of(linear, layer) == own_part(
                scheme.of(linear, layer), blocks.get((linear, layer)))


@pytest.mark.parametrize("name", ["simd-w4a8", "mix-lut-simd"])
def test_every_linear_of_the_packaged_model(packaged_model, name):
    model, scheme = load_model(packaged_model), load_scheme(name)
    architecture, stored = as_stored(named_model(packaged_model), scheme)
    assert architecture == model.architecture
    for layer in (0, 13, 29):
        for linear in architecture.linears:
            part, own = scheme.of(linear, layer), stored.of(linear, layer)
            blocks = model.blocks(f"layers.{layer}.{linear}.weight")
            if isinstance(part, SimdScheme) and runs_native(blocks, part):
                assert (own.group, own.asymmetric) == (
                    weight_group(blocks, part), blocks.minima is not None)
            else:
                assert own == part
