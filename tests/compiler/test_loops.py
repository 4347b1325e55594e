"""Loops, caches and several programs of one memory: expansion, and what the verifier refuses."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.errors import VerifyError
from compiler.image.access import accesses
from compiler.image.hazards import conflicts
from compiler.image.image import Section
from compiler.image.layout import pack_norm, pack_uniform
from compiler.image.order import check_overflow
from compiler.image.program import Task, decode_program, encode_program, expand_program, steps
from compiler.image.verify import verify_programs
from compiler.image.weights import WeightFormat, pack_weights
from hw.errors import LutripError
from hw.isa import ENGINE_OF, FIELDS, LINE_BYTES, Base, Engine, Opcode, SimdMode, encode
from hw.presets import load_hardware
from sim.functional import Machine

TINY = load_hardware("tiny")
WORDS = LINE_BYTES // TINY.port_bytes
LOAD, STORE = 1 << Engine.LOAD, 1 << Engine.STORE
OUTPUTS, CACHE, PROGRAM = 0, 1 << 12, 1 << 15
SECTIONS = [Section(OUTPUTS, 4096), Section(CACHE, 1 << 14)]
CONSTANTS = 5 << 12


def line(opcode, address, vector, **header):
    """LOAD or STORE of one line."""
    name = "destination" if opcode == Opcode.LOAD else "source"
    return opcode, {"address": address, "words": WORDS, name: vector, **header}


def loop(count, length, first=1, second=2):
    return Opcode.LOOP, {"count": count, "length": length, "first_stride": first,
                         "second_stride": second}


def code(*program):
    filled = [(opcode, {**dict.fromkeys(FIELDS[opcode], 0), **fields})
              for opcode, fields in program]
    return b"".join(encode(opcode, fields) for opcode, fields in [*filled, (Opcode.END, {})])


def memory_of(*programs):
    """Programs of a page each; line n of the constants holds n."""
    memory = np.zeros(PROGRAM + 4096 * len(programs), np.uint8)
    memory[CONSTANTS:CONSTANTS + 4096].reshape(-1, LINE_BYTES)[:] = np.arange(64)[:, None]
    for index, program in enumerate(programs):
        data = code(*program)
        at = PROGRAM + 4096 * index
        memory[at:at + len(data)] = np.frombuffer(data, np.uint8)
    return memory


def verify(*programs, memory=None):
    memory = memory_of(*programs) if memory is None else memory
    verify_programs(memory, TINY, [PROGRAM + 4096 * i for i in range(len(programs))], SECTIONS)


FIRST = CONSTANTS // LINE_BYTES
COPIES = [
    loop(5, 2),
    line(Opcode.LOAD, FIRST, 8, base=Base.FIRST, wait=STORE, post=STORE),
    line(Opcode.STORE, 0, 8, base=Base.SECOND, wait=LOAD, post=LOAD),
]
"""Needs a token of store for load before it, and leaves one."""
BEFORE = line(Opcode.STORE, 60, 0, post=LOAD)
FILL = line(Opcode.LOAD, FIRST + 9, 0, post=STORE)
PROGRAM_OF_COPIES = [FILL, (*BEFORE[:1], {**BEFORE[1], "wait": LOAD}), *COPIES,
                     line(Opcode.LOAD, FIRST, 0, wait=STORE)]


def test_loops_are_unrolled_with_the_address_of_each_iteration():
    program = decode_program(code(*PROGRAM_OF_COPIES))
    assert [opcode for opcode, _ in program].count(Opcode.LOOP) == 1
    expanded = list(expand_program(program))
    assert [index for index, _, _ in expanded] == [0, 1, *[3, 4] * 5, 5]
    assert [fields["address"] for _, _, fields in expanded[2:12]] == [
        FIRST, 0, FIRST + 1, 2, FIRST + 2, 4, FIRST + 3, 6, FIRST + 4, 8]
    assert [index for index, _, _ in expand_program(program, 2)] == [0, 1, 3, 4, 3, 4, 5]
    assert [step.iteration for step in steps(program, 2)] == [0, 0, 0, 0, 1, 1, 0]


def test_golden_runs_loops_and_continues_on_the_same_memory():
    memory = memory_of(PROGRAM_OF_COPIES, [line(Opcode.LOAD, 2, 0, post=STORE),
                                           line(Opcode.STORE, 63, 0, wait=LOAD)])
    machine = Machine(memory, TINY)
    beats = machine.run(PROGRAM)
    assert machine.expanded == [(0, 0), (1, 0), *((3 + k, i) for i in range(5) for k in range(2)),
                                (5, 0)]
    assert beats["store"].instruction.tolist() == [
        index for index in (1, 3, 5, 7, 9, 11) for _ in range(WORDS)]
    lines = memory.reshape(-1, LINE_BYTES)
    assert lines[:10:2, 0].tolist() == [0, 1, 2, 3, 4]
    machine.run(PROGRAM + 4096)
    assert lines[63, 0] == 1
    assert len(machine.collected("store")) == WORDS


def test_tasks_of_loops_have_no_region():
    tasks = [
        Task(opcode=Opcode.LOOP, op="layers", fields=loop(4, 1)[1]),
        Task(opcode=Opcode.LOAD, op="x", region="r", base=Base.SECOND,
             fields={"words": 4, "destination": 0}),
    ]
    program = decode_program(encode_program(tasks, {"r": 640}))
    assert program[1][1]["address"] == 10
    assert program[1][1]["base"] == Base.SECOND


@pytest.mark.parametrize(("program", "message"), [
    ([loop(2, 3), loop(2, 1), FILL, FILL], r"^instruction 1 \(LOOP\): loops do not nest$"),
    ([loop(0, 1), FILL], r"^instruction 0 \(LOOP\): count is 0$"),
    ([loop(2, 0), FILL], r"^instruction 0 \(LOOP\): length is 0$"),
    ([loop(2, 2), FILL], r"^instruction 2 \(END\): stands inside a loop$"),
])
def test_malformed_loops(program, message):
    with pytest.raises(LutripError, match=message):
        decode_program(code(*program))


def test_a_loop_passes():
    verify(PROGRAM_OF_COPIES)


def changed(index, **fields):
    program = list(PROGRAM_OF_COPIES)
    program[index] = program[index][0], {**program[index][1], **fields}
    return program


@pytest.mark.parametrize(("program", "message"), [
    (changed(2, count=200), r"^instruction 4 \(STORE\): writes outside the image's outputs and c"),
    (changed(2, first_stride=1 << 9), r"^instruction 3 \(LOAD\): memory words up to \d+ of \d+$"),
    (changed(3, post=0), r"an iteration changes the tokens of load for store by -1$"),
    (changed(4, base=Base.ABSOLUTE, address=FIRST + 2), r"writes outside the image's outputs"),
    ([FILL, BEFORE, *COPIES], r"^load posts 1 tokens for store that nothing takes$"),
])
def test_loops_that_are_refused(program, message):
    with pytest.raises(VerifyError, match=message):
        verify(program)


def test_overlap_of_iterations():
    """Without tokens back, the next iteration's load may come before the store has read."""
    program = [loop(4, 2), line(Opcode.LOAD, FIRST, 8, base=Base.FIRST, post=STORE),
               line(Opcode.STORE, 0, 8, base=Base.SECOND, wait=LOAD)]
    with pytest.raises(VerifyError, match=r"^instruction 1 \(LOAD\): can overlap instruction 2 "):
        verify(program)


def test_the_program_at_fault_is_named():
    with pytest.raises(VerifyError, match=r"^program at 0x9000: instruction 1 \(STORE\): can ove"):
        verify(PROGRAM_OF_COPIES, [line(Opcode.LOAD, FIRST, 0), line(Opcode.STORE, 0, 0)])
    with pytest.raises(VerifyError, match=r"^no program can start at address 0x7$"):
        verify_programs(memory_of(), TINY, [7], SECTIONS)


def test_a_loop_may_post_many_tokens_in_all():
    body = [line(Opcode.LOAD, 0, 8, post=STORE)] * 60
    late = [line(Opcode.STORE, 0, 8, wait=LOAD)] * 60
    program = [(opcode, {"wait": 0, "post": 0, "base": 0, **fields})
               for opcode, fields in [loop(900, 120), *body, *late]]
    check_overflow(program)


def test_every_head_of_the_cache_is_for_itself():
    """A SIMD of one head's keys conflicts with what appends to them, not with other heads."""
    form = WeightFormat(config=TINY, blocks=2, groups=1, group_rounds=2, weight_bits=8,
                        has_min=False)
    size = form.port_stride * TINY.weight_ports

    def simd(head):
        return Opcode.SIMD, {
            **dict.fromkeys(FIELDS[Opcode.SIMD], 0), "address": head * size,
            "port_stride": form.port_stride, "mode": SimdMode.W8A8, "rounds": 2, "tokens": 1,
            "blocks": 2, "group_rounds": 2, "first": 1, "plain": 1, "volatile": 1}

    def append(head, transpose, slot):
        return Opcode.APPEND, {
            **dict.fromkeys(FIELDS[Opcode.APPEND], 0), "address": head * size,
            "port_stride": form.port_stride, "tokens": 3, "heads": 1, "words": 2, "stride": 2,
            "slot": slot,
            "group_rounds": 2, "group_words": form.group_bytes // TINY.port_bytes,
            "transpose": transpose}

    program = [append(0, 0, 0), append(1, 0, 29), append(2, 1, 5), simd(0), simd(1), simd(2),
               simd(3)]
    touches = [(ENGINE_OF[opcode], accesses(opcode, fields, TINY)) for opcode, fields in program]
    assert [follows.get(Engine.STORE) for follows in conflicts(touches)[3:]] == [0, 1, 2, None]


def attention(log2=0, **changes):
    """QUANTIZE-free attention: scores are loaded, softmax, mixture with the cached values."""
    form = WeightFormat(config=TINY, blocks=1, groups=2, group_rounds=8, weight_bits=8,
                        has_min=False)
    memory_parts = {
        CACHE: pack_weights(form, np.zeros((32, 128), np.int8), np.ones((2, 32), np.int16), None),
        CONSTANTS: pack_uniform(9, TINY, shift1=4, shift2=5),
        CONSTANTS + 128: pack_norm(np.ones(8, np.int16), np.zeros(8, np.int16), 16, 1, 1, 8, 1,
                                   TINY),
    }
    linear, drain, softmax = (1 << e for e in (Engine.LINEAR, Engine.DRAIN, Engine.SOFTMAX))
    program = [
        (Opcode.LOAD, {"address": FIRST, "words": 32, "post": softmax}),
        (Opcode.SOFTMAX, {
            "tokens": 2, "heads": 1, "words": 16, "stride": 16, "rounds": 16, "position": 100,
            "fraction": 8, "log2": log2, "wait": LOAD, "post": linear}),
        (Opcode.SIMD, {
            "address": CACHE // LINE_BYTES, "port_stride": form.port_stride, "rounds": 16,
            "mode": SimdMode.W8L4 if log2 else SimdMode.W8A8, "tokens": 2, "blocks": 1,
            "group_rounds": 8, "shift": 2, "first": 1, "plain": 1, "volatile": 1,
            "wait": softmax, "post": drain}),
        (Opcode.DRAIN, {
            "address": FIRST, "tokens": 2, "heads": 1, "blocks": 1, "words": 4,
            "destination": 64, "stride": 8, "uniform": 1, "compact": 0, "token_scale": 1,
            "wait": linear}),
    ]
    for name, fields in changes.items():
        index = [opcode.name for opcode, _ in program].index(name)
        program[index][1].update(fields)
    memory = memory_of(program)
    for address, data in memory_parts.items():
        memory[address:address + len(data)] = np.frombuffer(data, np.uint8)
    return program, memory


@pytest.mark.parametrize("log2", [0, 1])
def test_attention_passes(log2):
    program, memory = attention(log2)
    verify(program, memory=memory)


@pytest.mark.parametrize(("changes", "message"), [
    ({"SOFTMAX": {"fraction": 9}}, r"9 fraction bits, at most 8 are allowed$"),
    ({"SOFTMAX": {"position": 127}}, r"position 128 of 128 scores$"),
    ({"SOFTMAX": {"rounds": 15}}, r"16 words of scores for 15 rounds$"),
    ({"SOFTMAX": {"scales": 255}}, r"scales words up to 257 of 256$"),
    ({"SIMD": {"volatile": 0}}, r"may be read ahead, but lies in a section that is written$"),
    ({"DRAIN": {"address": CACHE // LINE_BYTES}},
     r"may be read ahead, but lies in a section that is written$"),
    ({"SIMD": {"plain": 0}}, r"reads alphas word 0, which nothing wrote$"),
    ({"DRAIN": {"scales": 1}}, r"reads scales word 2, which nothing wrote$"),
    ({"DRAIN": {"destination": 8, "wait": 0}}, r"deadlock|nothing takes|overlap"),
    ({"DRAIN": {"stride": 3}}, r"rows of its result overlap$"),
])
def test_attention_that_is_refused(changes, message):
    program, memory = attention(**changes)
    with pytest.raises(VerifyError, match=message):
        verify(program, memory=memory)


def test_sums_of_a_cache_are_bounded_by_its_shape():
    program, memory = attention(SIMD={"shift": 0})
    verify(program, memory=memory)
    scales = memory[CACHE:CACHE + 2 * TINY.port_columns].view("<i2")
    scales[3] = 32767
    with pytest.raises(VerifyError, match=r"sums reach \d+, more than the 32-bit accumulator hol"):
        verify(program, memory=memory)


def test_scales_of_log2_products_are_1():
    program, memory = attention(1)
    memory[CACHE:CACHE + 2 * TINY.port_columns].view("<i2")[3] = 2
    with pytest.raises(VerifyError, match=r"\(SIMD\): scales of log2 products must be 1$"):
        verify(program, memory=memory)


def test_header_lines():
    for at, value, message in ((0, 64, r"shift 64 exceeds 63$"),
                               (2, 17, r"bias shift 17 exceeds 16$"),
                               (64 + 3 * TINY.port_bytes + 1, 0x80, r"a multiplier is negative$")):
        program, memory = attention()
        memory[CONSTANTS + at] = value
        with pytest.raises(VerifyError, match=message):
            verify(program, memory=memory)
