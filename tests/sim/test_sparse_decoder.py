"""Decode steps that skip positions: bit-exact, and with fewer cycles, bytes and joules."""

from __future__ import annotations

import dataclasses
import functools
import json

import pytest

from compiler.decoder.build import DecoderCompiler
from compiler.decoder.generate import generate
from compiler.decoder.quantize import quantize_decoder
from compiler.frontends import shapes
from compiler.frontends.load import load_model, load_tokenizer
from compiler.image.program import decode_program, steps
from compiler.quant.scheme import SchemeMap, load_scheme
from compiler.text import CALIBRATION_TEXT, DEFAULT_PROMPT
from hw.isa import Opcode
from hw.presets import load_hardware
from hw.resources import load_device, total
from sim.counters import weight_bytes
from sim.decoder_build import PASS_FILE, open_build
from sim.energy import energy
from sim.energy_table import load_energy
from sim.execute import execute

TINY = load_hardware("tiny")
NEW_TOKENS = 3
WIDE = dataclasses.replace(shapes.SHAPES["tiny"], name="tiny-wide", layers=1, width=192,
                           ffn_width=384)
"""Layers so large that a read's latency, which nothing hides where lists decide, counts little."""
DENSE = load_scheme("rowgen-2bit").default
ZEROS = dataclasses.replace(DENSE, name="zeros", skip_zeros=True)
SPARSE = dataclasses.replace(DENSE, name="sparse", skip_zeros=True, sparsity=0.4)
SPARSER = dataclasses.replace(SPARSE, name="sparser", sparsity=0.6)
SCHEMES = {
    "dense": SchemeMap(name="dense", default=DENSE),
    "zeros": SchemeMap(name="zeros", default=ZEROS),
    "sparse": SchemeMap(name="sparse", default=SPARSE),
    "relu": SchemeMap(name="relu", default=ZEROS, activation="relu"),
    "mixed": SchemeMap(name="mixed", default=SPARSE, layers={
        "k": SPARSER, "gate": load_scheme("simd-w4a8-tiny").default, "o": ZEROS,
        "up": load_scheme("lut2d-gather-tiny").default}),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory, circuits):
    """Build and simulate a scheme; returns decoder, prompt, build folder and values."""
    folder = tmp_path_factory.mktemp("sparse")

    @functools.cache
    def call(name, shape="tiny"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(shapes.SHAPES, WIDE.name, WIDE)
            model, tokenizer = load_model(f"shape:{shape}"), load_tokenizer("shape:tiny")
        prompt = tokenizer.encode(DEFAULT_PROMPT)[:9]
        decoder = quantize_decoder(model, SCHEMES[name], TINY,
                                   tokenizer.encode(CALIBRATION_TEXT)[:64], capacity=12)
        path = folder / f"{shape}-{name}"
        DecoderCompiler(decoder, prompt, NEW_TOKENS).write(
            path, {"model": "shape:tiny", "scheme": name})
        return decoder, prompt, path, execute(path, build_dir=circuits).values

    return call


@pytest.mark.parametrize("name", SCHEMES)
def test_sparse_decoders_are_bit_exact(run, name):
    decoder, prompt, path, values = run(name)
    assert values["first_mismatch"] is None
    assert values["bit_exact"]
    assert values["token_ids"] == generate(decoder, prompt, NEW_TOKENS)
    build = open_build(path)
    for item in build.passes:
        program = list(steps(decode_program(build.memory[item.program_address:])))
        sparse = [step.fields["sparse"] for step in program if step.opcode == Opcode.LUT]
        # The prompt's last pass has one token too.
        assert any(sparse) == (name != "dense" and item.tokens == 1)


def decode_counters(run, *names):
    """Counters of the last pass, a decode step."""
    path = run(*names)[2]
    last = json.loads((path / PASS_FILE).read_text().splitlines()[-1])
    assert last["name"].startswith("decode")
    return last["counters"]


def joules(counters):
    """Energy of a pass."""
    table = load_energy(load_device(TINY.device).energy, TINY.device)
    return energy(counters, TINY, total(TINY), table).total.value


def test_skipping_saves_cycles_bytes_and_energy(run):
    dense, sparse = (decode_counters(run, name, WIDE.name) for name in ("dense", "sparse"))
    for name in ("lut_steps", "rowgen_rows", "table_words"):
        assert sparse[name] < 0.85 * dense[name]
    assert sparse["busy_linear"] < dense["busy_linear"]
    assert weight_bytes(sparse, TINY) < weight_bytes(dense, TINY)
    assert joules(sparse) < joules(dense)
    assert sparse["skipped_rows"] > dense["skipped_rows"] == 0


def test_relu_leaves_zeros_to_skip(run):
    zeros, relu = (decode_counters(run, name) for name in ("zeros", "relu"))
    assert relu["skipped_rows"] > zeros["skipped_rows"]
