"""Agile-Quant's token rule in RTL: int8, int4 and skipped tokens of a pass against golden."""

from __future__ import annotations

import dataclasses
import functools

import pytest

from compiler.decoder.build import DecoderCompiler
from compiler.decoder.generate import generate
from compiler.decoder.quantize import quantize_decoder
from compiler.frontends.load import load_model, load_tokenizer
from compiler.image.program import decode_program
from compiler.quant.scheme import load_scheme
from compiler.quant.token_rule import TokenRule
from compiler.text import CALIBRATION_TEXT, DEFAULT_PROMPT
from hw.isa import Opcode
from hw.presets import load_hardware
from sim.decoder_build import open_build
from sim.execute import execute
from sim.records import MemoryModel

TINY = load_hardware("tiny")
PROMPT_TOKENS, NEW_TOKENS = 19, 2
"""Passes of 8, 8 and 3 tokens, then one of one."""
HALF = TokenRule(int4=0.5, tokens=8)
CASES = {
    "mixed": ("tiny-qwen3", dataclasses.replace(
        load_scheme("simd-w4a4-agile-tiny"), softmax="log2")),
    "half": ("tiny", dataclasses.replace(load_scheme("simd-w4a8-tiny"), token_rule=HALF)),
    "late": ("tiny-bloom", dataclasses.replace(
        load_scheme("simd-w4a8-tiny"), token_rule=TokenRule(int4=1.0, from_layer=1))),
    "plain": ("tiny", load_scheme("simd-w4a8-tiny")),
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Compile a case once: folder, decoder, prompt."""
    folder = tmp_path_factory.mktemp("token_rule")

    @functools.cache
    def call(case):
        shape, scheme = CASES[case]
        tokenizer = load_tokenizer("shape:tiny")
        decoder = quantize_decoder(
            load_model(f"shape:{shape}"), scheme, TINY, tokenizer.encode(CALIBRATION_TEXT)[:64],
            capacity=PROMPT_TOKENS + NEW_TOKENS - 1)
        prompt = tokenizer.encode(DEFAULT_PROMPT * 2)[:PROMPT_TOKENS]
        DecoderCompiler(decoder, prompt, NEW_TOKENS).write(
            folder / case, {"model": "shape:tiny", "scheme": decoder.scheme})
        return folder / case, decoder, prompt

    return call


@pytest.fixture(scope="module")
def run(compiled, circuits):
    """Simulate a case once."""

    @functools.cache
    def call(case):
        memory = MemoryModel(latency_cycles=40, bytes_per_cycle=5.0) if case == "late" else None
        return execute(compiled(case)[0], build_dir=circuits, memory=memory).values

    return call


@pytest.mark.parametrize("case", ["mixed", "half", "late"])
def test_passes_are_bit_exact(run, compiled, case):
    values = run(case)
    assert values["first_mismatch"] is None
    assert values["bit_exact"]
    assert [row["name"] for row in values["passes"]] == [
        "prefill 0:8", "prefill 8:16", "prefill 16:19", "decode 19"]
    _, decoder, prompt = compiled(case)
    assert values["token_ids"] == generate(decoder, prompt, NEW_TOKENS)
    assert values["beats"]["order"] == 19 * (1 if case == "late" else 2)
    assert values["counters"]["simd_steps_w4a4"] > 0


def test_decoding_has_no_order(compiled):
    path, *_ = compiled("mixed")
    build = open_build(path)
    orders = [[fields for opcode, fields in decode_program(build.memory[item.program_address:])
               if opcode == Opcode.ORDER] for item in build.passes]
    assert [len(found) for found in orders] == [2, 2, 2, 0]
    parts = [(found[0]["tokens"], found[0]["low"], found[0]["pruned"]) for found in orders[:3]]
    assert parts == [(8, 4, 2), (8, 4, 2), (3, 1, 0)]


def test_two_int4_tokens_share_a_step(run):
    plain, half = (
        {bits: run(case)["counters"][f"simd_steps_w4{bits}"] for bits in ("a4", "a8")}
        for case in ("plain", "half"))
    assert plain["a4"] == 0
    # Of 19 tokens 9 are int4: 5 pairs of them instead of 9 steps, and one token is decoded.
    saved = plain["a8"] - half["a8"]
    assert half["a4"] * 9 == saved * 5
