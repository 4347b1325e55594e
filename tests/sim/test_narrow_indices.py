"""Hardware with rows of 8 entries and indices of 3 bits: bit-exact, with the modelled cycles."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest

from compiler.decoder.build import DecoderCompiler
from compiler.decoder.generate import generate
from compiler.decoder.quantize import quantize_decoder
from compiler.errors import CompileError
from compiler.frontends.load import load_model, load_tokenizer
from compiler.image.program import decode_program, steps
from compiler.quant.scheme import SchemeMap, load_scheme
from compiler.text import CALIBRATION_TEXT, DEFAULT_PROMPT
from hw.isa import LutMode, Opcode
from hw.presets import load_hardware
from sim.decoder_build import open_build
from sim.execute import execute
from tests.sim.cycle_errors import cycle_errors

TINY = load_hardware("tiny")
THREE = dataclasses.replace(
    TINY, name="tiny-three", port_bits=64, lanes=64, index_bits=3, row_bits=12, vector_words=2048,
    operand_words=1024)
"""A block's indices fill 3 port words."""
SHARED = dataclasses.replace(THREE, name="tiny-three-shared", weight_ports=3, sparse=False)
"""Each lane's own port brings 2 of these words, a shared one the third of both lanes."""
COMPUTED = dataclasses.replace(load_scheme("rowgen-2bit").default, weight_codes=8)
TABLES = dataclasses.replace(load_scheme("lut2d-tiny").default, weight_codes=8)
GATHERED = dataclasses.replace(load_scheme("lut2d-gather-tiny").default, weight_codes=8)
SCHEMES = {
    "computed": SchemeMap(name="computed", default=COMPUTED),
    "mixed": SchemeMap(name="mixed", default=COMPUTED, layers={
        "k": dataclasses.replace(COMPUTED, name="sparse", skip_zeros=True, sparsity=0.4),
        "gate": load_scheme("simd-w4a8-tiny").default, "up": GATHERED, "v": TABLES}),
}
SCHEMES["shared"] = SCHEMES["computed"]
HARDWARE = {"computed": THREE, "mixed": THREE, "shared": SHARED}
NEW_TOKENS = 3


def quantized(scheme, hardware=THREE):
    """Quantized decoder and prompt."""
    tokenizer = load_tokenizer("shape:tiny")
    decoder = quantize_decoder(load_model("shape:tiny"), scheme, hardware,
                               tokenizer.encode(CALIBRATION_TEXT)[:64], capacity=12)
    return decoder, tokenizer.encode(DEFAULT_PROMPT)[:9]


@pytest.fixture(scope="module")
def run(tmp_path_factory, circuits):
    """Build and simulate a scheme; returns decoder, prompt, build folder and values."""
    folder = tmp_path_factory.mktemp("narrow")

    @functools.cache
    def call(name):
        decoder, prompt = quantized(SCHEMES[name], HARDWARE[name])
        path = folder / name
        DecoderCompiler(decoder, prompt, NEW_TOKENS).write(
            path, {"model": "shape:tiny", "scheme": name})
        return decoder, prompt, path, execute(path, build_dir=circuits).values

    return call


@pytest.mark.parametrize("name", SCHEMES)
def test_decoders_are_bit_exact(run, name):
    decoder, prompt, path, values = run(name)
    assert values["first_mismatch"] is None
    assert values["bit_exact"]
    assert values["token_ids"] == generate(decoder, prompt, NEW_TOKENS)
    build = open_build(path)
    program = list(steps(decode_program(build.memory[build.passes[-1].program_address:])))
    lookups = [step.fields for step in program if step.opcode == Opcode.LUT]
    modes = {fields["mode"] for fields in lookups}
    assert modes == (set(LutMode) if name == "mixed" else {LutMode.ROWGEN})
    for fields in lookups:
        index_words = fields["record_words"] - fields["table_words"]
        assert index_words == 3 * fields["blocks"] * THREE.lanes // THREE.port_bits


@pytest.mark.parametrize("name", ["computed", "shared"])
def test_cycles_against_rtl(run, circuits, tmp_path, name):
    errors = cycle_errors(run(name)[2], HARDWARE[name], circuits, tmp_path / "run")
    assert np.abs(errors).max() <= 0.01


@pytest.mark.parametrize("scheme", ["rowgen-2bit", "lut2d-tiny"])
def test_larger_codebooks_are_refused(scheme, tmp_path):
    decoder, prompt = quantized(load_scheme(scheme))
    with pytest.raises(CompileError, match=r": 16 weight centroids, hardware tiny-three takes 8$"):
        DecoderCompiler(decoder, prompt, NEW_TOKENS).write(tmp_path, {"model": "x", "scheme": "y"})
