"""A decoder with rotated residual, values and hidden activations in RTL against golden."""

from __future__ import annotations

import dataclasses

import numpy as np

from compiler.decoder.build import DecoderCompiler
from compiler.decoder.generate import generate
from compiler.decoder.quantize import quantize_decoder
from compiler.frontends.load import load_model
from compiler.image.program import decode_program, steps
from compiler.quant.scheme import load_scheme
from hw.isa import Opcode
from hw.presets import load_hardware
from sim.decoder_build import open_build
from sim.execute import execute

TINY = load_hardware("tiny")
PROMPT, NEW_TOKENS = [int(token) for token in np.random.default_rng(7).integers(0, 256, 11)], 2


def test_online_rotation_is_bit_exact(tmp_path, circuits):
    scheme = dataclasses.replace(load_scheme("simd-w4a4-tiny"), rotation="online")
    calibration = np.random.default_rng(8).integers(0, 256, 64)
    decoder = quantize_decoder(load_model("shape:tiny"), scheme, TINY, calibration, 12)
    DecoderCompiler(decoder, PROMPT, NEW_TOKENS, split_layers=False).write(
        tmp_path, {"model": "shape:tiny", "scheme": decoder.scheme})
    build = open_build(tmp_path)
    program = steps(decode_program(build.memory[build.passes[0].program_address:]))
    rotations = [step.fields for step in program if step.opcode == Opcode.HADAMARD]
    architecture = decoder.architecture
    # Both halves of the pass have one in each layer.
    assert build.metadata["halves"]
    assert len(rotations) == 2 * architecture.layers
    for fields in rotations:
        assert fields["words"] == architecture.ffn_width // TINY.word_elements
        # 160 is 5 blocks of 32 elements, of 4 words each.
        assert fields["length_bits"] == 5
    values = execute(tmp_path, build_dir=circuits).values
    assert values["first_mismatch"] is None
    assert values["bit_exact"]
    assert values["token_ids"] == generate(decoder, PROMPT, NEW_TOKENS)
    words = (len(PROMPT) + NEW_TOKENS - 1) * architecture.layers * rotations[0]["words"]
    assert values["counters"]["hadamard_steps"] == values["beats"]["hadamard"] == words
