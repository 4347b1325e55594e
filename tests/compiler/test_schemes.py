"""Schemes: shipped ones load, mixes resolve, wrong ones give one line."""

from __future__ import annotations

import pytest

from compiler.quant.scheme import Lut2dScheme, RowgenScheme, SimdScheme, load_scheme
from hw.errors import ConfigError
from hw.presets import names


@pytest.mark.parametrize("name", names("schemes"))
def test_shipped_schemes_load(name):
    assert load_scheme(name).name == name


def test_promised_names():
    lut, gather = load_scheme("lut2d").default, load_scheme("lut2d-gather").default
    assert isinstance(lut, Lut2dScheme)
    assert (lut.act_codes, lut.weight_codes, lut.group_columns) == (64, 16, 512)
    assert isinstance(gather, Lut2dScheme)
    assert gather.gather
    codes = {n: load_scheme(f"rowgen-{n}bit").default for n in (2, 3, 4)}
    for bits, scheme in codes.items():
        assert isinstance(scheme, RowgenScheme)
        assert scheme.weight_codes == 4**bits
    for name, bits in (("w8a8", (8, 8)), ("w4a8", (4, 8)), ("w4a4", (4, 4))):
        scheme = load_scheme(f"simd-{name}").default
        assert isinstance(scheme, SimdScheme)
        assert (scheme.weight_bits, scheme.act_bits) == bits


def test_mix(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("kind: mix\ndefault: lut2d\nlayers:\n  down: simd-w4a8\n")
    mix = load_scheme(str(path))
    assert mix.of("q", 0).name == "lut2d"
    assert mix.of("down", 0).name == "simd-w4a8"


def test_options_of_attention_and_activation(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("kind: mix\ndefault: lut2d\nsoftmax: log2\nactivation: x * sigmoid(x)\n")
    mix = load_scheme(str(path))
    assert (mix.softmax, mix.activation) == ("log2", "x * sigmoid(x)")
    plain = load_scheme("simd-w8a8")
    assert (plain.softmax, plain.activation) == ("int8", None)


@pytest.mark.parametrize(("text", "message"), [
    ("kind: simd\nsoftmax: 8\n", "softmax must be int8 or log2, not 8"),
    ("kind: simd\nactivation: 3\n",
     "activation must be a function's name or an expression of x, not 3"),
    ("kind: simd\nactivation: x +\n", "activation 'x +' is not an expression of x"),
    ("kind: lutt\n", "kind must be lut2d, rowgen, simd or mix, not 'lutt'"),
    ("act_codes: 64\n", "kind must be lut2d, rowgen, simd or mix, not None"),
    ("kind: lut2d\nact_code: 64\n", "unknown key 'act_code'; did you mean act_codes?"),
    ("kind: lut2d\nact_codes: 65\n",
     "act_codes must be one of 2, 4, 8, 16, 32, 64, 128, 256, not 65"),
    ("kind: lut2d\ngather: 1\n", "gather must be true or false, not 1"),
    ("kind: simd\nweight_bits: 8\nact_bits: 4\n",
     "int8 weights need act_bits 8 (the array has no W8A4 layout)"),
    ("kind: simd\nseed: -1\n", "seed must be a whole number from 0, not -1"),
    ("kind: mix\n", "missing key 'default'"),
    ("kind: mix\ndefault: lut2d\nlayers:\n  gat: lut2d\n", "unknown key 'gat'; did you mean gate?"),
    ("kind: mix\ndefault: lut2d\nlayers: 3\n", "layers must map linear layers to schemes"),
    ("kind: mix\ndefault: mix-lut-simd\n", "'mix-lut-simd' must name a scheme that is not a mix"),
])
def test_wrong_scheme(tmp_path, text, message):
    path = tmp_path / "my.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_scheme(str(path))
    assert str(error.value) == f"{path}: {message}"
