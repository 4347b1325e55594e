"""The program run on golden: beats, their order, and that instructions touch what they declare."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.build import compile_graph
from compiler.image.access import Space, accesses
from compiler.image.program import decode_program
from compiler.lower.block import lower_block, lower_linears
from hw.errors import LutripError
from hw.isa import ENGINE_OF, Opcode
from hw.presets import load_hardware
from sim.functional import TAPS, Machine, data_mask, mask_bytes, run_image
from tests.compiler.random_linears import KINDS, random_activations, random_linear, random_mlp

TINY = load_hardware("tiny")


def mlp_build(seed, kinds, tokens):
    rng = np.random.default_rng(seed)
    layers = {"m": random_mlp(rng, kinds, 20, 70, TINY, 1)}
    return compile_graph(lower_block(layers, {"m.mlp_input": random_activations(rng, tokens, 20)}),
                         TINY)


def linear_build(kind, tokens):
    rng = np.random.default_rng(0)
    linear = random_linear(rng, kind, 20, 70, TINY)
    return compile_graph(
        lower_linears({"y": linear}, {"y": "x"}, {"x": random_activations(rng, tokens, 20)}), TINY)


def memory_of(build):
    return np.frombuffer(build.image.data, np.uint8).copy()


def run(build):
    return run_image(build.image.data, build.hardware, build.image.program_address)


def stores_of(machine):
    """Every on-chip store as [words, ...]."""
    return {
        Space.VECTOR: machine.vector, Space.OPERAND: machine.operand,
        Space.ALPHAS: machine.alphas, Space.SCALES: machine.scales,
        Space.ACCUMULATOR: machine.accumulator.reshape(-1, machine.config.lanes),
    }


kinds_of_mlp = st.tuples(*[st.sampled_from(KINDS)] * 3)


@settings(max_examples=8)
@given(st.integers(0, 2**32), kinds_of_mlp, st.integers(1, 9))
def test_instructions_touch_what_they_declare(seed, kinds, tokens):
    """Words that are not declared as read hold garbage; words not declared as written stay."""
    build = mlp_build(seed, kinds, tokens)
    expected = run(build)
    rng = np.random.default_rng(seed)
    machine = Machine(memory_of(build), TINY)
    program = decode_program(build.image.section("program"))
    for machine.index, (opcode, fields) in enumerate(program):
        touched = accesses(opcode, fields, TINY)
        before = {space: store.copy() for space, store in stores_of(machine).items()}
        for space, store in stores_of(machine).items():
            unread = np.ones(len(store), bool)
            for access in touched:
                if access.space == space and not access.write:
                    unread[access.words()] = False
            store[unread] = rng.integers(0, 4, store[unread].shape)
        garbage = {space: store.copy() for space, store in stores_of(machine).items()}
        machine.step(opcode, fields)
        for space, store in stores_of(machine).items():
            written = np.zeros(len(store), bool)
            for access in touched:
                if access.space == space and access.write:
                    written[access.words()] = True
            assert np.array_equal(store[~written], garbage[space][~written])
            store[~written] = before[space][~written]
    assert build.outputs(machine.memory.tobytes())["m.down"].tolist() == (
        build.outputs(expected.memory)["m.down"].tolist())


@settings(max_examples=6)
@given(st.integers(0, 2**32), kinds_of_mlp, st.integers(1, 9))
def test_beats_replayed_give_the_stores(seed, kinds, tokens):
    build = mlp_build(seed, kinds, tokens)
    machine = Machine(memory_of(build), TINY)
    result = machine.run(build.image.program_address)
    expanded = [(index, 0) for index in range(len(build.instruction_ops))]
    assert machine.expanded == expanded
    vector = np.zeros((TINY.vector_words, TINY.port_bytes), np.uint8)
    operand = np.zeros((TINY.operand_words, TINY.word_elements), np.uint8)
    memory = np.frombuffer(build.image.data, np.uint8).copy()
    for index in range(len(build.instruction_ops)):
        for tap, beats in result.items():
            for k in np.flatnonzero(beats.instruction == index):
                address, data = int(beats.address[k]), beats.data[k]
                if tap == "store":
                    memory[address:address + len(data)] = data
                elif tap in ("search", "quantize"):
                    mask = data_mask(beats.mask[k:k + 1])[0]
                    assert not (data & ~mask).any()
                    operand[address] = (operand[address] & ~mask) | data
                else:
                    vector[address] = data
    assert memory.tobytes() == machine.memory.tobytes()
    assert np.array_equal(operand, machine.operand)
    assert np.array_equal(vector.view("<i2"), machine.vector)


def test_every_beat_belongs_to_an_instruction_of_its_engine_in_order():
    build = mlp_build(0, ("stream", "w4a4", "rowgen"), 5)
    program = decode_program(build.image.section("program"))
    beats = run(build).beats
    assert set(beats) == set(TAPS)
    for tap, part in beats.items():
        assert len(part) == len(part.data) == len(part.instruction)
        assert bool(len(part)) == (
            tap not in ("gather", "norm", "rope", "hadamard", "softmax", "order"))
        assert (np.diff(part.instruction) >= 0).all()
        for index in np.unique(part.instruction):
            assert ENGINE_OF[program[index][0]].name.lower() == tap


def test_order_of_beats():
    build = linear_build("stream", 3)
    program = decode_program(build.image.section("program"))
    beats = run(build).beats
    search = next(fields for opcode, fields in program if opcode == Opcode.SEARCH)
    first = beats["search"].instruction == beats["search"].instruction[0]
    assert beats["search"].address[first].tolist() == [
        search["operands"] + n for n in range(search["rounds"] * 3)]
    drain = next(fields for opcode, fields in program if opcode == Opcode.DRAIN)
    assert beats["drain"].address.tolist() == [
        drain["destination"] + t * drain["stride"] + w
        for w in range(drain["words"]) for t in range(3)]
    store = next(fields for opcode, fields in program if opcode == Opcode.STORE)
    assert beats["store"].address.tolist() == [
        store["address"] * 64 + n * TINY.port_bytes for n in range(store["words"])]


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_int4_shares_words_between_two_tokens(tokens):
    """The even token writes zeros into the odd one's nibbles, the odd one only its own."""
    build = linear_build("w4a4", tokens)
    program = decode_program(build.image.section("program"))
    fields = next(fields for opcode, fields in program if opcode == Opcode.QUANTIZE)
    beats = run(build).beats["quantize"]
    pairs = (tokens + 1) // 2
    assert beats.address.tolist() == [
        fields["operands"] + r * pairs + t // 2
        for t in range(tokens) for r in range(fields["rounds"])]
    for k, address in enumerate(beats.address):
        odd = k // fields["rounds"] % 2
        assert address < TINY.operand_words
        assert beats.mask[k].tolist() == [1 - odd, 1] * TINY.word_elements
        assert not (beats.data[k] & (0x0F if odd else 0xF0)).any()
    assert mask_bytes(beats.mask)[0].tolist() == [0xFF] * (TINY.word_elements // 4)


def test_beyond_the_image():
    build = linear_build("stream", 2)
    with pytest.raises(LutripError, match=r"^instruction 0 \(LOAD\): reads beyond the \d+ bytes"):
        run_image(build.image.data[:build.image.sections["activations"].address],
                  TINY, build.image.program_address)


def test_code_that_no_table_has():
    build = linear_build("stream", 2)
    machine = Machine(memory_of(build), TINY)
    program = decode_program(build.image.section("program"))
    fields = next(fields for opcode, fields in program if opcode == Opcode.LUT)
    machine.operand[:] = 255
    with pytest.raises(ValueError, match=r"^code 255 of \d+ centroids$"):
        machine.step(Opcode.LUT, fields)
    machine.operand[:] = 0
    small = dataclasses.replace(TINY, operand_words=2)
    with pytest.raises(LutripError, match=r"out of bounds"):
        run_image(build.image.data, small, build.image.program_address)
