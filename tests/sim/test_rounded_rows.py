"""Hardware that rounds computed rows: bit-exact, narrower, and with the modelled cycles."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest

from compiler.build import IMAGE_FILE
from compiler.decoder.build import DecoderCompiler
from compiler.decoder.generate import generate
from compiler.decoder.quantize import quantize_decoder
from compiler.frontends.load import load_model, load_tokenizer
from compiler.frontends.shapes import SHAPES
from compiler.image.program import decode_program, steps
from compiler.quant.scheme import SchemeMap, load_scheme
from compiler.structure import drawn, structural_decoder
from compiler.text import CALIBRATION_TEXT, DEFAULT_PROMPT
from hw.isa import LutMode, Opcode
from hw.presets import load_hardware
from hw.resources import total
from sim.circuit import circuit
from sim.decoder_build import open_build
from sim.estimate.program import Circuit
from sim.estimate.rows import pack_rows
from sim.execute import execute
from sim.records import Job, MemoryModel
from sim.runner import simulate_passes

TINY = load_hardware("tiny")
NARROW = dataclasses.replace(TINY, name="tiny-narrow", row_bits=8)
DENSE = load_scheme("rowgen-2bit").default
SPARSE = dataclasses.replace(DENSE, name="sparse", skip_zeros=True, sparsity=0.4)
SCHEMES = {
    "dense": SchemeMap(name="dense", default=DENSE),
    "sparse": SchemeMap(name="sparse", default=SPARSE),
    "mixed": SchemeMap(name="mixed", default=load_scheme("rowgen-3bit").default, layers={
        "k": SPARSE, "gate": load_scheme("simd-w4a8-tiny").default,
        "up": load_scheme("lut2d-gather-tiny").default, "v": load_scheme("lut2d-tiny").default}),
}
NEW_TOKENS = 3


@pytest.fixture(scope="module")
def run(tmp_path_factory, circuits):
    """Build and simulate a scheme; returns decoder, prompt, build folder and values."""
    folder = tmp_path_factory.mktemp("rounded")

    @functools.cache
    def call(name):
        model, tokenizer = load_model("shape:tiny"), load_tokenizer("shape:tiny")
        prompt = tokenizer.encode(DEFAULT_PROMPT)[:9]
        decoder = quantize_decoder(model, SCHEMES[name], NARROW,
                                   tokenizer.encode(CALIBRATION_TEXT)[:64], capacity=12)
        path = folder / name
        DecoderCompiler(decoder, prompt, NEW_TOKENS).write(
            path, {"model": "shape:tiny", "scheme": name})
        return decoder, prompt, path, execute(path, build_dir=circuits).values

    return call


@pytest.mark.parametrize("name", SCHEMES)
def test_rounded_decoders_are_bit_exact(run, name):
    decoder, prompt, path, values = run(name)
    assert values["first_mismatch"] is None
    assert values["bit_exact"]
    assert values["token_ids"] == generate(decoder, prompt, NEW_TOKENS)
    build = open_build(path)
    program = list(steps(decode_program(build.memory[build.passes[-1].program_address:])))
    computed = [step.fields for step in program if step.opcode == Opcode.LUT
                and step.fields["mode"] == LutMode.ROWGEN]
    assert all(0 <= fields["row_shift"] <= 8 for fields in computed)
    assert any(fields["row_shift"] for fields in computed)
    assert any(fields["sparse"] for fields in computed) == (name != "dense")


def test_narrow_rows_take_fewer_luts():
    assert total(NARROW).lut < total(TINY).lut
    v80 = load_hardware("v80")
    saved = total(v80).lut - total(dataclasses.replace(v80, row_bits=8)).lut
    assert saved > 0.4 * v80.positions * v80.lanes * 8 * 5


def test_cycles_against_rtl(circuits, tmp_path):
    decoder = structural_decoder(SHAPES["tiny"], SCHEMES["dense"], NARROW, 14, drawn(5))
    DecoderCompiler(decoder, [3] * 10, 3).write(tmp_path, {"model": "x", "scheme": "y"})
    build = open_build(tmp_path)
    jobs = [Job(program_address=item.program_address, expected={}) for item in build.passes]
    memory, errors = MemoryModel(), []
    results = simulate_passes(circuit(NARROW, circuits), NARROW, tmp_path / IMAGE_FILE, jobs,
                              tmp_path / "run", memory=memory, build_dir=circuits / "sim")
    for item, result in zip(build.passes, results, strict=True):
        rows = pack_rows(decode_program(build.memory[item.program_address:]), NARROW)
        timeline = Circuit.of(NARROW, memory).run(rows, item.program_address // NARROW.port_bytes)
        errors.append(timeline.cycles / result.cycles - 1)
    assert np.abs(errors).max() <= 0.01
