"""Random decoders: what the golden decoder computes, the compiled program computes on any hardware.

Tokens, their logits, the residual behind every layer and the key-value cache are compared; the
compiler verifies every program from its bytes.
"""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings

from compiler.decoder.build import DecoderCompiler, spans_of
from compiler.lower.attention import Span
from compiler.model import Architecture
from compiler.quant import codebooks, vector
from compiler.quant.scheme import Lut2dScheme, RowgenScheme, SchemeMap, SimdScheme
from hw.errors import LutripError
from sim.records import MemoryModel
from tests.verify.decoder_checks import check_machine
from tests.verify.random_decoders import TINY, Case, cases, from_json, hardware_pool

W4A8 = SimdScheme(name="w4a8", group=32, trip_max=2)
W8A8 = SimdScheme(name="w8a8", weight_bits=8, group=32, trip_max=0)
LUT = Lut2dScheme(name="lut", act_codes=8, group_columns=64)
BASE = Case(
    architecture=Architecture(
        name="base", family="llama", layers=2, width=42, heads=4, kv_heads=2, head_width=10,
        ffn_width=37, vocabulary=61, norm_epsilon=1e-5, rope_base=1e4, context=128,
        tied_embeddings=True),
    scheme=SchemeMap(name="base", default=W8A8), hardware=TINY, seed=5, spread=0, prompt_tokens=11,
    new_tokens=3, extra=0, split_layers=True, memory=MemoryModel())


def changed(case=BASE, **parts):
    """The case with other fields of its parts: ``architecture={...}`` and so on."""
    return dataclasses.replace(case, **{
        name: dataclasses.replace(getattr(case, name), **value) if isinstance(value, dict)
        else value for name, value in parts.items()})


def check(case, folder):
    return check_machine(case.quantize(), case.prompt(), case.new_tokens, folder,
                         split_layers=case.split_layers)


@settings(max_examples=20)
@given(case=cases(hardware_pool(7, 12)))
def test_programs_compute_what_golden_does(case, tmp_path_factory):
    assert from_json(case.to_json()) == case
    tokens, refusal = [], ""
    try:
        tokens = check(case, tmp_path_factory.mktemp("build"))
    except LutripError as error:
        refusal = str(error)
    assert "\n" not in refusal
    assert refusal or len(tokens) == case.new_tokens


FOUR = changed(
    hardware={"vector_length": 4},
    scheme={"default": RowgenScheme(name="rowgen", vector_length=4, weight_codes=4,
                                    group_columns=32)})
FOUND = {
    "function of the factor": changed(architecture={"activation": "drelu"}),
    "a short first pass needs more room than a long last one": changed(
        architecture={"width": 64, "heads": 3, "kv_heads": 3, "ffn_width": 20, "position": "alibi",
                      "norm": "layer", "linear_bias": True, "window": 3},
        hardware={"port_bits": 64, "lanes": 64, "group_max": 32, "tokens_max": 7,
                  "accumulator_words": 43, "vector_words": 1108, "operand_words": 128,
                  "index_blocks": 12, "activation_lanes": 4},
        scheme=SchemeMap(name="mix", default=dataclasses.replace(LUT, gather=True), layers={
            "down": W4A8, "up": RowgenScheme(name="rowgen", group_columns=256),
            "v": dataclasses.replace(W4A8, group=16)}),
        prompt_tokens=18, new_tokens=4),
    "computed rows of four inputs": FOUR,
}
"""Cases that were wrong once."""
WANTED = {
    "one token": changed(prompt_tokens=1, new_tokens=1),
    "looped layers": changed(architecture={"layers": 6}, split_layers=False),
    "learned positions and log2 softmax": changed(
        architecture={"position": "learned", "position_offset": 2, "kv_heads": 1, "window": 4},
        scheme={"softmax": "log2"}),
    "keys and values of four heads side by side": changed(
        architecture={"kv_heads": 4, "head_width": 8}, prompt_tokens=5, new_tokens=4),
    "values of three heads side by side, not their keys": changed(
        architecture={"heads": 3, "kv_heads": 3, "head_width": 6}, scheme={"softmax": "log2"},
        extra=30),
    "heads of more than a column block": changed(
        architecture={"head_width": 48, "heads": 2, "kv_heads": 1, "qk_norm": True}, extra=60),
    "heads of an odd number of weight groups": changed(architecture={"head_width": 72}),
    "a window of one and outlier channels": changed(
        architecture={"window": 1, "qkv_bias": True, "activation": "mish"}, spread=4,
        scheme={"default": W4A8}),
    "no gate": changed(architecture={"gated": False, "activation": "elu", "norm": "layer",
                                     "embedding_norm": True, "head_width": 7,
                                     "position": "learned"}),
    "rotated blocks of half a word": changed(
        architecture={"ffn_width": 36}, scheme={"rotation": "online", "default": W4A8}, spread=4),
    "rotated blocks of two words, no gate": changed(
        architecture={"ffn_width": 48, "gated": False, "activation": "elu", "position": "learned",
                      "linear_bias": True},
        scheme={"rotation": "online", "default": LUT}),
}


@pytest.mark.parametrize("name", [*FOUND, *WANTED])
def test_cases(name, tmp_path):
    check({**FOUND, **WANTED}[name], tmp_path)


@pytest.mark.parametrize(("case", "message"), [
    (changed(hardware={"simd": False, "log2_softmax": False}), "has no multiplier array"),
    (changed(hardware={"vector_words": 24}), r"vector memory \(vector_words\) holds 24, too few"),
    (changed(hardware={"operand_words": 16}), r"operand store \(operand_words\) holds 16"),
    (changed(hardware={"accumulator_words": 1}, extra=90),
     r"accumulator \(accumulator_words\) holds 1, too few even for one token"),
    (changed(hardware={"tokens_max": 1}), r"rows of an instruction \(tokens_max\) holds 1"),
    (changed(hardware={"vector_words": 128}, architecture={"head_width": 16, "width": 600}),
     "the residual has 80 words of 128 bits"),
    (changed(architecture={"position": "alibi"}), "ALiBi with grouped queries is not supported"),
    (changed(hardware={"log2_softmax": False}, scheme={"softmax": "log2"}), "no log2 softmax"),
    (changed(hardware={"rowgen": False},
             scheme={"default": RowgenScheme(name="rowgen", group_columns=64)}),
     "it has no row generator"),
])
def test_refused_in_one_line(case, message, tmp_path):
    with pytest.raises(LutripError, match=message) as caught:
        check(case, tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "build.json").exists()


def test_rows_that_could_leave_16_bits_are_refused(tmp_path, monkeypatch):
    for module in (vector, codebooks):
        monkeypatch.setattr(module, "CENTROID_SUM_MAX", 4 * 127)
    with pytest.raises(LutripError, match=r"\(LUT\): a computed row can exceed 16 bits$"):
        check(FOUR, tmp_path)


def test_positions_and_the_capacity():
    decoder = changed(prompt_tokens=5, new_tokens=4).quantize()
    assert decoder.capacity == 8
    DecoderCompiler(decoder, [1] * 5, 4)
    with pytest.raises(LutripError, match="9 positions exceed the key-value capacity of 8"):
        DecoderCompiler(decoder, [1] * 6, 4)
    with pytest.raises(LutripError, match="a prompt and at least one new token"):
        DecoderCompiler(decoder, [], 4)


def test_spans():
    assert spans_of(11, 3, 4) == [Span(0, 4), Span(4, 4), Span(8, 3), Span(11, 1), Span(12, 1)]
    assert spans_of(1, 1, 4) == [Span(0, 1)]
