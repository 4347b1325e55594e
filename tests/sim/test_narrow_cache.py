"""Hardware whose key-value cache has 4 bits: bit-exact, with the modelled cycles."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest

from compiler.decoder.build import DecoderCompiler
from compiler.decoder.generate import generate
from compiler.decoder.quantize import quantize_decoder
from compiler.errors import CompileError, VerifyError
from compiler.frontends.load import load_model, load_tokenizer
from compiler.frontends.shapes import SHAPES
from compiler.image.bounds import InstructionCheck
from compiler.image.program import decode_program, steps
from compiler.lower.attention import Span
from compiler.lower.cache import LAST_VALUES, cache_sizes
from compiler.quant.scheme import load_scheme
from compiler.structure import structural_decoder
from compiler.text import CALIBRATION_TEXT, DEFAULT_PROMPT
from hw.isa import Opcode, SimdMode
from hw.presets import load_hardware
from sim.decoder_build import open_build
from sim.estimate.model import SAMPLES, sampled
from sim.estimate.plan import Planner, program_rows
from sim.execute import execute
from tests.sim.cycle_errors import cycle_errors
from tests.verify.decoder_checks import check_machine

TINY = load_hardware("tiny")
SCHEME = load_scheme("simd-w4a8-tiny")
CACHES = {bits: dataclasses.replace(TINY, name=f"tiny-cache-{bits[0]}-{bits[1]}",
                                    key_bits=bits[0], value_bits=bits[1], tokens_max=7)
          for bits in ((4, 4), (8, 4), (4, 8), (8, 8))}
PROMPT, NEW_TOKENS = 10, 4
"""Passes of 7 and 3 tokens, then positions of both parities."""
IN_RTL = [pytest.param((4, 4)), pytest.param((8, 4), marks=pytest.mark.slow),
          pytest.param((4, 8), marks=pytest.mark.slow)]


@functools.cache
def quantized(bits):
    """Quantized decoder and prompt."""
    tokenizer = load_tokenizer("shape:tiny")
    decoder = quantize_decoder(load_model("shape:tiny"), SCHEME, CACHES[bits],
                               tokenizer.encode(CALIBRATION_TEXT)[:64], capacity=16)
    return decoder, tokenizer.encode(DEFAULT_PROMPT)[:PROMPT]


@pytest.fixture(scope="module")
def run(tmp_path_factory, circuits):
    """Build and simulate; returns the build folder and values."""
    folder = tmp_path_factory.mktemp("cache")

    @functools.cache
    def call(bits):
        decoder, prompt = quantized(bits)
        path = folder / CACHES[bits].name
        DecoderCompiler(decoder, prompt, NEW_TOKENS).write(
            path, {"model": "shape:tiny", "scheme": SCHEME.name})
        return path, execute(path, build_dir=circuits).values

    return call


@pytest.mark.parametrize("bits", CACHES)
@pytest.mark.parametrize("tokens", [1, 6, 9, 10])
def test_programs_compute_what_golden_does(bits, tokens, tmp_path):
    """Tokens, logits, residual and cache."""
    decoder, prompt = quantized(bits)
    check_machine(decoder, prompt[:tokens], NEW_TOKENS, tmp_path, split_layers=tokens == 9)


@pytest.mark.parametrize("bits", IN_RTL)
def test_decoders_are_bit_exact(run, bits):
    path, values = run(bits)
    decoder, prompt = quantized(bits)
    assert values["first_mismatch"] is None
    assert values["bit_exact"]
    assert values["token_ids"] == generate(decoder, prompt, NEW_TOKENS)
    build = open_build(path)
    for item in build.passes:
        program = list(steps(decode_program(build.memory[item.program_address:])))
        fields = [step.fields for step in program
                  if step.opcode == Opcode.SIMD and step.fields["volatile"]]
        modes = {SimdMode(field["mode"]) for field in fields}
        assert modes == {SimdMode.W4A8 if part == 4 else SimdMode.W8A8 for part in bits}


@pytest.mark.parametrize("bits", IN_RTL)
def test_cycles_against_rtl(run, circuits, tmp_path, bits):
    errors = cycle_errors(run(bits)[0], CACHES[bits], circuits, tmp_path / "run")
    assert np.abs(errors).max() <= 0.01


@pytest.mark.parametrize("bits", CACHES)
def test_values_that_share_bytes_are_kept(bits):
    """An odd token's values come with those of the even one before it, in whatever pass it was."""
    planner = Planner(structural_decoder(
        quantized(bits)[0].architecture, SCHEME, CACHES[bits], 16), PROMPT, NEW_TOKENS)
    emitter, found = planner.make_emitter(planner.halves), []
    for span in planner.spans:
        tasks, _ = emitter.layer(planner.groups[0].layer, span)
        kept = [task.opcode for task in tasks if task.region == LAST_VALUES]
        found.append((span, kept))
        slots = [task.fields["slot"] for task in tasks
                 if task.opcode == Opcode.APPEND and task.fields["transpose"]]
        assert bits[1] == 8 or not any(slot % 2 for slot in slots)
        modes = {field["mode"] for field in (task.fields for task in tasks)
                 if field.get("volatile")}
        assert modes == {SimdMode.W4A8 if part == 4 else SimdMode.W8A8 for part in bits}
    if bits[1] == 8:
        assert not any(kept for _, kept in found)
        assert LAST_VALUES not in cache_sizes(quantized(bits)[0])
        return
    for span, kept in found:
        assert (Opcode.LOAD in kept) >= (span.position % 2 == 1)
        assert (Opcode.STORE in kept) >= (span.end % 2 == 1)
        if span.tokens == 1:
            assert kept == [Opcode.LOAD if span.position % 2 else Opcode.STORE]


def test_the_cache_is_smaller():
    """By nearly half: scales take as much as with 8 bits."""
    sim, sizes = load_hardware("sim"), {}
    for bits in CACHES:
        hardware = dataclasses.replace(sim, key_bits=bits[0], value_bits=bits[1])
        sizes[bits] = sum(cache_sizes(structural_decoder(
            SHAPES["smollm2-135m"], load_scheme("simd-w4a8"), hardware, 2048)).values())
    assert 0.5 < sizes[4, 4] / sizes[8, 8] < 0.56
    for bits in ((4, 8), (8, 4)):
        assert 0.75 < sizes[bits] / sizes[8, 8] < 0.78


def test_steps_of_both_parities_are_sampled():
    """Odd positions read a row that even ones write: neither stands for the other."""
    spans = [Span(20 + number, 1) for number in range(40)]
    found = sampled(spans, 20, SAMPLES, period=2)
    for parity in (0, 1):
        weights = [weight for number, weight in found if number % 2 == parity]
        assert sum(weights) == pytest.approx(20)
        assert len(weights) >= 2
    assert sampled(spans[:1], 20, SAMPLES, period=2) == [(0, 1.0)]


def test_passes_of_one_parity_are_sampled_as_ever():
    spans = [Span(32 * number, 32) for number in range(58)]
    last = spans[-1].end
    assert sampled(spans, last, SAMPLES, period=2) == sampled(spans, last, SAMPLES)


@pytest.mark.parametrize("bits", [(4, 4), (8, 4)])
def test_programs_are_the_linkers(bits):
    """As `tests.sim.test_estimate_identity` for caches of 8 bits."""
    config = CACHES[bits]
    planner = Planner(structural_decoder(
        quantized(bits)[0].architecture, SCHEME, config, 16), PROMPT, NEW_TOKENS)
    emitter = planner.make_emitter(planner.halves)
    for span in planner.spans:
        runs = [(group.first, group.last, emitter.layer(group.layer, span)[0])
                for group in planner.groups]
        program = planner.linker.link(emitter.embed(span), runs, emitter.next_token(span))
        assert np.array_equal(planner.planned(span, True).rows, program_rows(program, config))


@pytest.mark.parametrize(("bits", "opcode", "transposed", "changes", "message"), [
    ((8, 4), Opcode.APPEND, 1, {"slot": 1}, r"slot 1 is in the middle of a byte$"),
    ((4, 4), Opcode.SIMD, None, {"mode": int(SimdMode.W8A8)},
     r"volatile weights of 8 bits, keys have 4 and values 4$"),
    ((8, 8), Opcode.SIMD, None, {"mode": int(SimdMode.W4A8)},
     r"volatile weights of 4 bits, keys have 8 and values 8$"),
])
def test_programs_that_contradict_the_cache(bits, opcode, transposed, changes, message):
    planner = Planner(structural_decoder(
        quantized(bits)[0].architecture, SCHEME, CACHES[bits], 16), PROMPT, NEW_TOKENS)
    tasks, _ = planner.make_emitter(planner.halves).layer(planner.groups[0].layer, Span(10, 1))
    fields = next(
        task.fields for task in tasks if task.opcode == opcode
        and (task.fields.get("volatile") if transposed is None
             else task.fields["transpose"] == transposed))
    check = InstructionCheck(0, opcode, {
        "wait": 0, "post": 0, "base": 0, "address": 0, **fields, **changes}, CACHES[bits])
    with pytest.raises(VerifyError, match=message):
        check.check(1 << 30, [])


def test_log2_softmax_needs_values_of_8_bits():
    scheme = dataclasses.replace(SCHEME, softmax="log2")
    tokens = load_tokenizer("shape:tiny").encode(CALIBRATION_TEXT)[:64]
    message = r"values of 8 bits, those of hardware tiny-cache-8-4 have 4 \(value_bits\)"
    with pytest.raises(CompileError, match=message):
        quantize_decoder(load_model("shape:tiny"), scheme, CACHES[8, 4], tokens, capacity=16)
    with pytest.raises(CompileError, match=message):
        structural_decoder(quantized((8, 8))[0].architecture, scheme, CACHES[8, 4], 16)
