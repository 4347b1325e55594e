"""Programs: tokens, and a verifier that rejects every kind of damage."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.build import Build, compile_graph
from compiler.errors import VerifyError
from compiler.image.order import check_overflow
from compiler.image.program import decode_program
from compiler.image.verify import verify_image
from compiler.lower.block import lower_block
from hw.errors import LutripError
from hw.isa import ENGINE_OF, INSTRUCTION_BYTES, LINE_BYTES, Engine, Opcode, encode
from hw.presets import load_hardware
from tests.compiler.random_linears import KINDS, random_activations, random_mlp

TINY = load_hardware("tiny")


@functools.cache
def mlp_build(*kinds: str) -> Build:
    """A block whose program uses every engine; several column tiles, tokens in two tiles."""
    rng = np.random.default_rng(1)
    config = dataclasses.replace(TINY, accumulator_words=16)
    layers = {"m": random_mlp(rng, kinds, 40, 100, config, 1)}
    graph = lower_block(layers, {"m.mlp_input": random_activations(rng, 13, 40)})
    return compile_graph(graph, config)


def program_of(build: Build) -> list[tuple[Opcode, dict[str, int]]]:
    return decode_program(build.image.section("program"))


def with_program(build: Build, program: list[tuple[Opcode, dict[str, int]]]):
    data = b"".join(encode(opcode, fields) for opcode, fields in program)
    return build.image.replace("program", data.ljust(build.image.sections["program"].size, b"\0"))


def find(build: Build, opcode: Opcode, which: int = 0) -> int:
    return [i for i, (op, _) in enumerate(program_of(build)) if op == opcode][which]


def rejected(build: Build, index: int, message: str, **changes: int) -> None:
    """The program with some fields of one instruction changed raises this one line."""
    program = program_of(build)
    program[index] = program[index][0], {**program[index][1], **changes}
    with pytest.raises(LutripError, match=message) as caught:
        verify_image(with_program(build, program), build.hardware)
    assert "\n" not in str(caught.value)


@settings(max_examples=8)
@given(st.tuples(*[st.sampled_from(KINDS)] * 3))
def test_compiled_programs_pass_and_use_few_tokens(kinds):
    build = mlp_build(*kinds)
    verify_image(build.image, build.hardware)
    program = program_of(build)
    assert sum(fields["wait"].bit_count() for _, fields in program) <= 2 * len(program)
    waits = sum(fields["wait"].bit_count() for _, fields in program)
    assert waits == sum(fields["post"].bit_count() for _, fields in program)


LUT = mlp_build("stream", "gather", "stream")
SIMD = mlp_build("w4a8", "rowgen", "w4a4")


@pytest.mark.parametrize("build", [LUT, SIMD], ids=["lut", "simd"])
def test_every_token_is_needed(build):
    """Taking any pair's last wait and the post it matches away leaves an overlap."""
    program = program_of(build)
    rng = np.random.default_rng(0)
    for index in rng.permutation([i for i, (_, f) in enumerate(program) if f["wait"]])[:6]:
        changed = [(opcode, dict(fields)) for opcode, fields in program]
        opcode, fields = changed[index]
        producer = next(e for e in Engine if fields["wait"] >> e & 1)
        pair = 1 << producer, 1 << ENGINE_OF[opcode]
        rank = sum(ENGINE_OF[op] == ENGINE_OF[opcode] and bool(f["wait"] & pair[0])
                   for op, f in program[:index])
        posts = [i for i, (op, f) in enumerate(program)
                 if ENGINE_OF[op] == producer and f["post"] & pair[1]]
        fields["wait"] &= ~pair[0]
        changed[posts[rank]][1]["post"] &= ~pair[1]
        with pytest.raises(VerifyError, match=r"can overlap instruction \d+ "):
            verify_image(with_program(build, changed), build.hardware)


def test_deadlock():
    index = find(LUT, Opcode.DRAIN)
    rejected(LUT, index, r"\(DRAIN\): deadlock, it waits for a token of store that never comes$",
             wait=1 << Engine.STORE | program_of(LUT)[index][1]["wait"])


def test_missing_post():
    index = find(LUT, Opcode.LOAD)
    rejected(LUT, index, r"deadlock, it waits for a token of load", post=0)


def test_tokens_left_over():
    index = find(LUT, Opcode.STORE, -1)
    rejected(LUT, index, r"^store posts 1 tokens for load that nothing takes$",
             post=1 << Engine.LOAD)


def test_token_count_overflow():
    first = [(Opcode.LOAD, {"wait": 0, "post": 1 << Engine.SEARCH}) for _ in range(256)]
    later = [(Opcode.SEARCH, {"wait": 1 << Engine.LOAD, "post": 0}) for _ in range(256)]
    with pytest.raises(VerifyError, match=r"^up to 256 tokens of load for search, the counter "):
        check_overflow([*first, *later])
    check_overflow([*first[:255], *later[:255]])


def test_overlap_of_a_moved_result():
    index = find(LUT, Opcode.LOAD, 1)
    source = program_of(LUT)[find(LUT, Opcode.ACTIVATE)][1]["source"]
    rejected(LUT, index, r"can overlap instruction|which nothing wrote", destination=source)


def test_reads_of_words_that_nothing_wrote():
    index = find(LUT, Opcode.STORE)
    rejected(LUT, index, r"\(STORE\): reads vector word \d+, which nothing wrote$", source=900)
    rejected(SIMD, find(SIMD, Opcode.SIMD), r"reads alphas word \d+, which nothing wrote$",
             alphas=3000)


@pytest.mark.parametrize(("build", "opcode", "changes", "message"), [
    (LUT, Opcode.LOAD, {"destination": 1020}, r"vector words up to \d+ of 1024$"),
    (LUT, Opcode.LOAD, {"address": 1 << 20}, r"memory words up to \d+ of \d+$"),
    (LUT, Opcode.LOAD, {"words": 0}, r"\(LOAD\): words is 0$"),
    (LUT, Opcode.LOAD, {"wait": 512}, r"wait names an engine that is not there$"),
    (LUT, Opcode.LOAD, {"post": 1}, r"post names its own engine$"),
    (LUT, Opcode.SEARCH, {"tokens": 9}, r"9 tokens, the hardware takes 8$"),
    (LUT, Opcode.SEARCH, {"operands": 255}, r"operand words up to \d+ of 256$"),
    (LUT, Opcode.LUT, {"mode": 3}, r"mode 3 is unknown$"),
    (LUT, Opcode.LUT, {"index_high": 3}, r"index_high 3 is unknown$"),
    (LUT, Opcode.LUT, {"slices": 2}, r"2 slices with index_high 0$"),
    (LUT, Opcode.LUT, {"table_words": 65}, r"table words, the buffer holds 64$|other fields say"),
    (LUT, Opcode.LUT, {"port_stride": 1}, r"port regions of \d+ bytes overlap$"),
    (LUT, Opcode.LUT, {"accumulator": 15}, r"accumulator words up to \d+ of 16$"),
    (LUT, Opcode.DRAIN, {"words": 99}, r"99 vector words from \d+ column blocks$"),
    (LUT, Opcode.DRAIN, {"begin": 99}, r"\d+ vector words from \d+ column blocks$"),
    (LUT, Opcode.DRAIN, {"begin": 4, "words": 1},
     r"its columns begin behind 4 vector words, not in the first block$"),
    (LUT, Opcode.DRAIN, {"stride": 1}, r"rows of its result overlap$"),
    (LUT, Opcode.ACTIVATE, {"destination": 1}, r"its result overlaps what it reads$|can overlap"),
    (LUT, Opcode.STORE, {"address": 0}, r"writes outside the image's outputs and cache$"),
    (SIMD, Opcode.SIMD, {"mode": 0, "volatile": 1},
     r"volatile weights have no minima, and activations of 8 bits or log2$"),
    (SIMD, Opcode.SIMD, {"mode": 1, "volatile": 1, "has_min": 0},
     r"volatile weights of 4 bits, keys have 8 and values 8$"),
    (SIMD, Opcode.QUANTIZE, {"heads": 9}, r"\d+ rows, the hardware takes 8$"),
    (SIMD, Opcode.DRAIN, {"mode": 3}, r"mode 3 is unknown$"),
    (SIMD, Opcode.DRAIN, {"mode": 2}, r"\d rows, ARGMAX takes one$"),
    (SIMD, Opcode.SIMD, {"base": 3}, r"base 3 is unknown$"),
    (SIMD, Opcode.SIMD, {"group_rounds": 0}, r"group_rounds is 0$"),
    (SIMD, Opcode.SIMD, {"group_rounds": 4}, r"are not whole groups of 4$"),
    (SIMD, Opcode.SIMD, {"shift": 0}, r"sums reach \d+, more than the 32-bit accumulator holds$"),
])
def test_fields_out_of_bounds(build, opcode, changes, message):
    rejected(build, find(build, opcode), message, **changes)


@pytest.mark.parametrize(("build", "opcode", "changes", "message"), [
    (LUT, Opcode.LUT, {"rowgen": False, "table_words": 4}, r"the buffer holds 4$"),
    (LUT, Opcode.LUT, {"index_blocks": 1, "accumulator_words": 64}, r"index buffer holds 1$"),
    (SIMD, Opcode.LUT, {"rowgen": False}, r"the hardware has no row generator$"),
    (SIMD, Opcode.SIMD, {"simd": False, "log2_softmax": False},
     r"the hardware has no multiplier array$"),
    (SIMD, Opcode.SIMD, {"group_max": 8}, r"weight groups of 16, the hardware takes 8$"),
])
def test_hardware_that_cannot_run_it(build, opcode, changes, message):
    config = dataclasses.replace(build.hardware, **changes)
    image = dataclasses.replace(build.image, digest=config.digest())
    with pytest.raises(VerifyError, match=message):
        verify_image(image, config)


def test_other_hardware():
    with pytest.raises(VerifyError, match=r"^the image is for hardware [0-9a-f]{16}, not tiny "):
        verify_image(LUT.image, TINY)


def test_channel_factors_that_rise_or_are_too_large():
    constants = bytearray(SIMD.image.section("constants"))
    fields = program_of(SIMD)[find(SIMD, Opcode.QUANTIZE)][1]
    at = fields["address"] * LINE_BYTES - SIMD.image.sections["constants"].address
    for value, message in ((0x40, r"channel factors rise within a weight group$"),
                           (0x55, r"a channel factor exceeds 4$")):
        constants[at] = value
        image = SIMD.image.replace("constants", bytes(constants))
        with pytest.raises(VerifyError, match=message):
            verify_image(image, SIMD.hardware)


def test_damaged_encoding():
    size = LUT.image.sections["program"].size
    with pytest.raises(LutripError, match=r"^instruction 0: unknown opcode 31$"):
        verify_image(LUT.image.replace("program", b"\x1f" + bytes(size - 1)), LUT.hardware)
    data = LUT.image.section("program")
    padded = data[:31] + b"\x80" + data[32:]
    with pytest.raises(LutripError, match=r"^instruction 0: LOAD: bits beyond the last field"):
        verify_image(LUT.image.replace("program", padded), LUT.hardware)
    with pytest.raises(LutripError, match=r"^the program has no END instruction$"):
        decode_program(data[:3 * INSTRUCTION_BYTES])
