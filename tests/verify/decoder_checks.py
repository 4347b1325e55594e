"""Golden decoder against the program image on golden functions: tokens, logits, residual, cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compiler.decoder.build import DecoderCompiler, cache_regions, load_decoder_build
from compiler.decoder.golden import GoldenDecoder, KeyValues
from compiler.decoder.quantized import QuantizedDecoder
from compiler.image.weights import unpack_weights
from hw.fixed import Ints
from hw.golden.residual import from_pairs
from hw.isa import LINE_BYTES
from sim.functional import Machine
from tests.verify.random_decoders import Case, token_line


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
    for name, form in cache_regions(decoder).items():
        size = decoder.hardware.weight_ports * form.port_stride * LINE_BYTES
        weights, scales, _ = unpack_weights(form, memory[at:at + size], form.port_stride)
        assert (scales == 1).all()
        at += size
        if "keys" in name:
            keys.append(weights)
            values.append([])
        else:
            values[-1].append(weights)
    stride = decoder.head_stride
    return (np.stack(keys)[:, :decoder.capacity],
            np.stack([np.concatenate(parts)[:stride].T[:decoder.capacity] for parts in values]))


def check_machine(case: Case, folder: Path) -> dict[str, Any]:
    """Compile a case and run its passes on golden functions; returns the build's metadata.

    Raises LutripError where the case cannot be compiled, AssertionError for a difference.
    """
    decoder, prompt = case.quantize(), case.prompt()
    compiler = DecoderCompiler(decoder, prompt, case.new_tokens, split_layers=case.split_layers)
    compiler.write(folder, {"model": "random", "scheme": "random"})
    golden = generate(decoder, prompt, case.new_tokens)
    memory, metadata = load_decoder_build(folder)
    machine = Machine(memory, case.hardware, record=False)
    parts = {part["name"]: part for part in metadata["memory_map"]}
    scratch, width = parts["scratch"]["address"], case.architecture.width
    pairs = 2 * compiler.words
    chosen = []
    for item in metadata["passes"]:
        machine.run(item["program_address"])
        if item["token_slot"]:
            chosen.append(token_line(machine.memory, item["token_slot"]))
            assert chosen[-1] == golden.chosen[len(chosen) - 1], item["name"]
        if item["layer"] is not None:
            first, tokens = item["first"], item["tokens"]
            size = tokens * pairs * case.hardware.port_bytes
            words = machine.memory[scratch:scratch + size].view("<i2")
            residual = from_pairs(words.reshape(tokens, pairs, -1))
            expected = golden.residuals[item["layer"], first:first + tokens]
            assert np.array_equal(residual[:, :width], expected), item["name"]
            assert not residual[:, width:].any(), item["name"]
    assert chosen == golden.chosen
    layers = case.architecture.layers
    start, size = parts["cache"]["address"], parts["cache"]["bytes"] // layers
    for layer in range(layers):
        keys, values = cached(decoder, machine.memory, start + layer * size)
        assert np.array_equal(keys, golden.state.keys[layer]), f"keys of layer {layer}"
        assert np.array_equal(values, golden.state.values[layer]), f"values of layer {layer}"
    return metadata
