"""Mixed precision in RTL: layers of different schemes, and costs against the counters."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from compiler.build import compile_block
from compiler.decoder.build import DecoderCompiler
from compiler.decoder.generate import generate
from compiler.decoder.quantize import quantize_decoder
from compiler.frontends import shapes
from compiler.frontends.load import load_model, load_tokenizer
from compiler.image.program import decode_program
from compiler.mixed.costs import CYCLES
from compiler.mixed.counters import MODELS, Timing, instruction_counters
from compiler.quant.scheme import SchemeMap, load_scheme
from compiler.text import CALIBRATION_TEXT, DEFAULT_PROMPT
from hw.isa import Opcode
from hw.presets import load_hardware
from sim.circuit import circuit
from sim.decoder_build import open_build
from sim.execute import execute
from sim.functional import run_image
from sim.runner import simulate

TINY = load_hardware("tiny")
NEW_TOKENS = 2
DEEP = dataclasses.replace(shapes.SHAPES["tiny"], name="tiny-mixed", layers=6)
MIX = SchemeMap(
    name="mix", default=load_scheme("simd-w4a4-tiny").default,
    layers={"0.down": load_scheme("lut2d-tiny").default,
            "0.q": load_scheme("rowgen-2bit").default,
            "5.up": load_scheme("lut2d-gather-tiny").default,
            "5.v": load_scheme("simd-w4a8-tiny").default})
"""Layer 0, then four alike that the program loops over, then one of its own."""
OTHERS = ("vector_reads", "vector_writes", "read_words_aux")
"""Counters that instructions outside the linears add to as well."""


def test_layers_of_different_schemes(tmp_path, circuits, monkeypatch):
    monkeypatch.setitem(shapes.SHAPES, DEEP.name, DEEP)
    tokenizer = load_tokenizer("shape:tiny")
    prompt = tokenizer.encode(DEFAULT_PROMPT)[:5]
    decoder = quantize_decoder(load_model(f"shape:{DEEP.name}"), MIX, TINY,
                               tokenizer.encode(CALIBRATION_TEXT)[:64],
                               capacity=len(prompt) + NEW_TOKENS - 1)
    assert list(decoder.forms) == [0, 1, 5]
    DecoderCompiler(decoder, prompt, NEW_TOKENS).write(
        tmp_path, {"model": "shape:tiny", "scheme": decoder.scheme})
    build = open_build(tmp_path)
    stored = decode_program(build.memory[build.passes[-1].program_address:])
    assert [fields["count"] for opcode, fields in stored if opcode == Opcode.LOOP] == [2]
    values = execute(tmp_path, build_dir=circuits).values
    assert values["first_mismatch"] is None
    assert values["bit_exact"]
    assert values["token_ids"] == generate(decoder, prompt, NEW_TOKENS)
    counters = values["counters"]
    assert all(counters[name] for name in (
        "search_steps", "rowgen_rows", "lut_steps", "simd_steps_w4a4", "simd_steps_w4a8"))


@pytest.mark.parametrize(("scheme", "tokens"), [
    ("lut2d-tiny", 7), ("lut2d-gather-tiny", 1), ("lut2d-gather-tiny", 7), ("rowgen-3bit", 7),
    ("simd-w4a8-tiny", 1), ("simd-w4a4-tiny", 7), ("simd-w8a8-tiny", 8)])
def test_costs_are_what_the_circuit_counts(scheme, tokens, tmp_path, circuits):
    ids = load_tokenizer("shape:tiny").encode(DEFAULT_PROMPT)
    build = compile_block(load_model("shape:tiny"), load_scheme(scheme), TINY, layers=(0, 1),
                          tokens=ids[:tokens], calibration=ids[9:])
    data, start = build.image.data, build.image.program_address
    run = simulate(circuit(TINY, circuits), TINY, data, start, run_image(data, TINY, start).beats,
                   tmp_path, max_cycles=50_000, build_dir=circuits / "sim")
    assert run.bit_exact
    expected: Counter[str] = Counter()
    for opcode, fields in decode_program(data[start:]):
        if opcode in MODELS:
            expected += instruction_counters(opcode, fields, TINY, Timing())
    cycles = expected.pop(CYCLES)
    assert expected["accumulator_steps"] > 0
    for name, value in expected.items():
        if name in OTHERS:
            assert run.counters[name] > value
        else:
            assert (name, run.counters[name]) == (name, value)
    assert cycles == pytest.approx(run.counters["busy_linear"], rel=0.15)
