"""Agile-Quant's token rule: shares, order by hand, golden rows, programs on golden functions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from compiler.decoder.golden import GoldenDecoder, PreparedLayer
from compiler.decoder.quantize import quantize_decoder
from compiler.decoder.token_rule import low_dequantization, ranked
from compiler.errors import CompileError
from compiler.quant.scheme import load_scheme
from compiler.quant.simd import SimdScheme
from compiler.quant.token_rule import TokenRule
from compiler.structure import structural_decoder
from hw.errors import ConfigError
from hw.presets import load_hardware
from sim.estimate.model import estimate
from sim.records import MemoryModel
from tests.compiler.test_decoder_golden import CALIBRATION, HARDWARE, MODELS, TOKENS, model_of
from tests.verify.decoder_checks import check_machine


def ruled(family="llama", **rule):
    """A quantized decoder under a rule."""
    scheme = dataclasses.replace(load_scheme("simd-w4a8-tiny"), token_rule=TokenRule(**rule))
    return quantize_decoder(model_of(MODELS[family]), scheme, HARDWARE, CALIBRATION, 48)


def behind_layer(decoder, rule, tokens):
    """Residual behind layer 0 under another rule than the decoder's own."""
    golden = GoldenDecoder(decoder)
    layer = decoder.layer(0)
    prepared = PreparedLayer(dataclasses.replace(layer, token_rule=None if rule is None else (
        dataclasses.replace(layer.token_rule, rule=rule))))
    return golden.run_layer(prepared, golden.embed(tokens, 0), golden.new_layer_state(), 0)


def test_parts_worked_by_hand():
    rule = TokenRule(int4=0.5, pruned=0.25)
    assert [rule.parts(tokens) for tokens in (10, 8, 3, 2, 1)] == [
        (5, 2), (4, 2), (1, 0), (1, 0), (0, 0)]
    # Importance 9, 2, 5, 5, 1: token 4 goes, of the others 1 and the earlier 5 are int4.
    made = ranked(TokenRule(int4=0.5, pruned=0.2), np.array([9, 2, 5, 5, 1]))
    assert made.order.tolist() == [0, 3, 1, 2, 4]
    assert [(rows.tolist(), low) for rows, low in made.attended] == [
        ([0, 3], False), ([1, 2, 4], True)]
    assert [(rows.tolist(), low) for rows, low in made.kept] == [([0, 3], False), ([1, 2], True)]


def test_dequantization_behind_int4_is_larger_by_the_limits():
    linear = ruled(int4=0.5).layer(0).linears["gate"]
    high, low = linear.dequantization, low_dequantization("gate", linear)
    steps = [part.multiplier / 2.0 ** (part.shift1 + part.shift2) for part in (high, low)]
    assert np.allclose(steps[1], steps[0] * 127 / 7, rtol=1e-4)
    assert low.shift1 < high.shift1
    assert (low.bias == high.bias).all()


def test_rows_of_a_layer_by_their_part():
    decoder = ruled(int4=0.5, pruned=0.25, tokens=8)
    tokens = TOKENS[:8]
    rule = decoder.layer(0).token_rule.rule
    mixed, int8, int4, skipped = (behind_layer(decoder, other, tokens) for other in (
        rule, None, TokenRule(int4=1.0), TokenRule(pruned=1.0)))
    kinds = [[np.array_equal(mixed[t], part[t]) for part in (int8, int4, skipped)]
             for t in range(8)]
    assert all(sum(kind) == 1 for kind in kinds)
    assert np.sum(kinds, axis=0).tolist() == [2, 4, 2]
    # The first token gives all its attention to itself.
    assert kinds[0] == [True, False, False]


def test_a_share_of_nothing_is_int8():
    plain = quantize_decoder(model_of(MODELS["llama"]), load_scheme("simd-w4a8-tiny"), HARDWARE,
                             CALIBRATION, 48)
    runs = [GoldenDecoder(decoder) for decoder in (plain, ruled(), ruled(int4=1.0, from_layer=9))]
    first, *others = (golden.run(TOKENS, golden.new_state()) for golden in runs)
    assert all(np.array_equal(first, other) for other in others)


def test_a_text_is_cut_into_passes():
    decoder = ruled(int4=0.5, tokens=6)
    assert decoder.pass_tokens == 6
    golden = GoldenDecoder(decoder)
    whole = golden.run(TOKENS, golden.new_state())
    state = golden.new_state()
    parts = [golden.run(TOKENS[at:at + 6], state) for at in range(0, len(TOKENS), 6)]
    assert np.array_equal(np.concatenate(parts), whole)
    assert ruled(int4=0.5).pass_tokens == HARDWARE.tokens_max


@pytest.mark.parametrize(("family", "rule"), [
    ("llama", TokenRule(int4=1.0)),
    ("qwen3", TokenRule(int4=0.4, pruned=0.3, tokens=6, from_layer=1)),
    ("opt", TokenRule(int4=0.25, pruned=0.5, tokens=5)),
    ("window", TokenRule(pruned=1.0)),
])
def test_programs_compute_what_golden_does(family, rule, tmp_path):
    decoder = ruled(family, **dataclasses.asdict(rule))
    check_machine(decoder, [int(token) for token in TOKENS], 3, tmp_path,
                  split_layers=family == "qwen3")


def test_a_last_pass_of_its_own_length(tmp_path):
    """Of 3 tokens 2 have int8 activations, of the 4 of the other passes 1: column tiles differ."""
    decoder = ruled(int4=0.5, pruned=0.5, tokens=4, from_layer=1)
    check_machine(decoder, [int(token) for token in TOKENS[:7]], 2, tmp_path, split_layers=False)
    scheme = dataclasses.replace(load_scheme("simd-w4a8-tiny"), token_rule=TokenRule(
        int4=0.5, pruned=0.5, tokens=4, from_layer=1))
    shape = structural_decoder(decoder.architecture, scheme, HARDWARE, 48)
    found = estimate(shape, MemoryModel(), 7, 2)
    assert found.prefill.passes == 2


def test_passes_that_the_hardware_does_not_hold(tmp_path):
    hardware = dataclasses.replace(HARDWARE, accumulator_words=6)
    scheme = dataclasses.replace(load_scheme("simd-w4a8-tiny"), token_rule=TokenRule(int4=0.5))
    decoder = quantize_decoder(model_of(MODELS["llama"]), scheme, hardware, CALIBRATION, 48)
    with pytest.raises(CompileError, match=r"holds passes of \d tokens, the token_rule of "
                                           r"scheme simd-w4a8-tiny ranks 8; use a scheme file of "
                                           r"your own with tokens: \d under token_rule$"):
        check_machine(decoder, [int(token) for token in TOKENS], 1, tmp_path, split_layers=False)


def test_hardware_without_an_order():
    scheme = load_scheme("simd-w4a4-agile-tiny")
    hardware = dataclasses.replace(load_hardware("tiny"), token_order=False)
    with pytest.raises(CompileError, match=r"keeps no order of tokens \(token_order is false\)"):
        quantize_decoder(model_of(MODELS["llama"]), scheme, hardware, CALIBRATION, 48)


def test_shipped_rules():
    agile, plain = load_scheme("simd-w4a4-agile"), load_scheme("simd-w4a4-agile-notrip")
    assert agile.token_rule == plain.token_rule == TokenRule(int4=0.16, tokens=32)
    assert isinstance(agile.default, SimdScheme)
    assert isinstance(plain.default, SimdScheme)
    assert (agile.default.trip_max, plain.default.trip_max) == (4, 0)


@pytest.mark.parametrize(("text", "message"), [
    ("token_rule: 3", " (token_rule): must map int4, pruned, from_layer and tokens, not 3"),
    ("token_rule: {int8: 0.5}", " (token_rule): unknown key 'int8'; did you mean int4?"),
    ("token_rule: {int4: 1.5}", " (token_rule): int4 must be a share from 0 to 1, not 1.5"),
    ("token_rule: {pruned: true}", " (token_rule): pruned must be a share from 0 to 1, not True"),
    ("token_rule: {int4: 0.7, pruned: 0.4}",
     " (token_rule): int4 and pruned must be at most 1 together, not 1.1"),
    ("token_rule: {from_layer: -1}",
     " (token_rule): from_layer must be a whole number from 0, not -1"),
    ("token_rule: {tokens: 256}",
     " (token_rule): tokens must be a whole number from 2 to 255, not 256"),
    ("weight_bits: 8\ntoken_rule: {int4: 0.5}",
     (": token_rule needs int4 weights and int8 activations in o (kind simd, weight_bits 4, "
      "act_bits 8)")),
])
def test_wrong_rules(tmp_path, text, message):
    path = tmp_path / "my.yaml"
    path.write_text(f"kind: simd\n{text}\n")
    with pytest.raises(ConfigError) as error:
        load_scheme(str(path))
    assert str(error.value) == f"{path}{message}"
