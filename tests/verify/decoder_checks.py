"""Golden decoder against the program image on golden functions: tokens, logits, residual, cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compiler.decoder.build import DecoderCompiler, load_decoder_build
from compiler.decoder.golden import GoldenDecoder, KeyValues
from compiler.decoder.quantized import QuantizedDecoder
from compiler.image.weights import unpack_weights
from compiler.lower.cache import cache_regions, cache_sizes, key_heads, key_words, value_heads
from hw.fixed import Ints
from hw.golden.residual import from_pairs
from hw.isa import LINE_BYTES
from sim.functional import Machine


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What golden makes of a prompt.

    chosen: token and its logit for each new token. residuals: behind every layer, int32 [layers,
    positions, width]. state: the cache.
    """

    chosen: Sequence[tuple[int, int]]
    residuals: Ints
    state: KeyValues


def generate(decoder: QuantizedDecoder, prompt: Sequence[int], new_tokens: int) -> Generated:
    """Run golden, the whole prompt at once."""
    golden = GoldenDecoder(decoder)
    state, chosen, residuals = golden.new_state(), [], []
    following = list(prompt)
    while len(chosen) < new_tokens:
        x, behind = golden.embed(following, state.length), []
        for index in range(decoder.architecture.layers):
            x = golden.layer(index, x, state)
            behind.append(x)
        state.length += len(x)
        residuals.append(np.stack(behind))
        logits = golden.logits(x[-1:])[0]
        chosen.append((int(logits.argmax()), int(logits.max())))
        following = [chosen[-1][0]]
    return Generated(chosen=chosen, residuals=np.concatenate(residuals, axis=1), state=state)


def cached(decoder: QuantizedDecoder, memory: Ints, at: int) -> tuple[Ints, Ints]:
    """Keys and values of a layer's cache at a byte address: int8 [kv heads, positions, stride]."""
    keys: list[Ints] = []
    values: list[list[Ints]] = []
    words, stride = decoder.hardware.word_elements, decoder.head_stride
    for name, form in cache_regions(decoder).items():
        size = decoder.hardware.lane_ports * form.port_stride * LINE_BYTES
        weights, scales, _ = unpack_weights(form, memory[at:at + size], form.port_stride)
        assert (scales == 1).all()
        at += size
        if "keys" in name:
            apart = key_words(decoder) * words
            keys += [weights[head * apart:][:decoder.capacity]
                     for head in range(key_heads(decoder))]
        else:
            if name.endswith(".0"):
                values.append([])
            values[-1].append(weights)
    beside = [np.concatenate(parts) for parts in values]
    return np.stack(keys), np.stack([
        columns[head * stride:][:stride].T[:decoder.capacity]
        for columns in beside for head in range(value_heads(decoder))])


def token_line(memory: Ints, slot: int) -> tuple[int, int]:
    """Token and logit that a pass left in a line of the memory."""
    token, logit = memory[slot:slot + LINE_BYTES].view("<i4")[:2]
    return int(token), int(logit)


def check_machine(
    decoder: QuantizedDecoder, prompt: Sequence[int], new_tokens: int, folder: Path, *,
    split_layers: bool,
) -> list[int]:
    """Compile a generation and run its passes on golden functions; returns the new tokens.

    Raises LutripError where it cannot be compiled, AssertionError for a difference.
    """
    compiler = DecoderCompiler(decoder, prompt, new_tokens, split_layers=split_layers)
    metadata = compiler.write(folder, {"model": "random", "scheme": decoder.scheme})
    golden = generate(decoder, prompt, new_tokens)
    memory, _ = load_decoder_build(folder)
    machine = Machine(memory, decoder.hardware, record=False)
    parts = {part["name"]: part["address"] for part in metadata["memory_map"]}
    width, pairs = decoder.architecture.width, 2 * compiler.words
    chosen = []
    for item in metadata["passes"]:
        machine.run(item["program_address"])
        if item["token_slot"]:
            chosen.append(token_line(machine.memory, item["token_slot"]))
            assert chosen[-1] == golden.chosen[len(chosen) - 1], item["name"]
        if item["layer"] is not None:
            first, tokens = item["first"], item["tokens"]
            size = tokens * pairs * decoder.hardware.port_bytes
            words = machine.memory[parts["scratch"]:parts["scratch"] + size].view("<i2")
            residual = from_pairs(words.reshape(tokens, pairs, -1))
            expected = golden.residuals[item["layer"], first:first + tokens]
            assert np.array_equal(residual[:, :width], expected), item["name"]
            assert not residual[:, width:].any(), item["name"]
    assert chosen == golden.chosen
    size = sum(cache_sizes(decoder).values())
    for layer in range(decoder.architecture.layers):
        keys, values = cached(decoder, machine.memory, parts["cache"] + layer * size)
        assert np.array_equal(keys, golden.state.keys[layer]), f"keys of layer {layer}"
        assert np.array_equal(values, golden.state.values[layer]), f"values of layer {layer}"
    return [token for token, _ in chosen]
