"""Order engine: tokens by their importance."""

from __future__ import annotations

from amaranth import Cat, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.golden.importance import IMPORTANCE_BITS
from hw.interfaces import MemoryRead, Task
from hw.isa import Opcode
from hw.memory.small_memory import MemoryWrite
from hw.memory.token_order import ENTRY_BITS

COMPARATORS = 8
"""Tokens that are ranked at once."""


class OrderEngine(wiring.Component):
    """Run ORDER (`hw.golden.importance.token_order`) by counting the less important tokens.

    Eight tokens are ranked at once, by one pass over all of them, in ``tokens + 18`` cycles.
    Places are written in the order of the tokens, each to the next place of its part. Tokens of a
    task are not 0, and not less than ``low + pruned``.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    task : In(Task(ORDER))
    importance : Out(MemoryRead)
    order : Out(MemoryWrite), a token for each place
    """

    task: stream.Interface
    importance: wiring.PureInterface
    order: wiring.PureInterface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "task": In(Task(Opcode.ORDER)),
            "importance": Out(MemoryRead(ENTRY_BITS, IMPORTANCE_BITS)),
            "order": Out(MemoryWrite(ENTRY_BITS, ENTRY_BITS)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        task, found = self.task.p, self.importance.data
        # One bit more than an entry: tokens are counted up to the end of the last eight.
        first, count = Signal(ENTRY_BITS + 1), Signal(ENTRY_BITS + 1)
        seen, arriving = Signal.like(count), Signal()
        candidates = [Signal(IMPORTANCE_BITS, name=f"candidate_{n}") for n in range(COMPARATORS)]
        ranks = [Signal(ENTRY_BITS, name=f"rank_{n}") for n in range(COMPARATORS)]
        starting = Signal()
        m.d.sync += [arriving.eq(self.importance.en), seen.eq(count)]

        with m.FSM():
            with m.State("idle"):
                m.d.comb += starting.eq(self.task.valid)
                m.d.sync += [first.eq(0), count.eq(0)]
                with m.If(starting):
                    m.next = "load"
            with m.State("load"):
                m.d.comb += [
                    self.importance.en.eq(count != COMPARATORS),
                    self.importance.address.eq(first + count),
                ]
                with m.If(self.importance.en):
                    m.d.sync += count.eq(count + 1)
                with m.If(arriving):
                    m.d.sync += Cat(*candidates).eq(Cat(*candidates[1:], found))
                with m.If(~self.importance.en):
                    m.d.sync += [count.eq(0), Cat(*ranks).eq(0)]
                    m.next = "compare"
            with m.State("compare"):
                m.d.comb += [
                    self.importance.en.eq(count != task.tokens),
                    self.importance.address.eq(count),
                ]
                with m.If(self.importance.en):
                    m.d.sync += count.eq(count + 1)
                for n, (candidate, rank) in enumerate(zip(candidates, ranks, strict=True)):
                    earlier = seen < first + n
                    less = (found < candidate) | ((found == candidate) & earlier)
                    m.d.sync += rank.eq(rank + (arriving & less))
                with m.If(~self.importance.en):
                    m.d.sync += count.eq(0)
                    m.next = "place"
            with m.State("place"):
                m.d.comb += self.order.valid.eq(first + count < task.tokens)
                m.d.sync += [count.eq(count + 1), Cat(*ranks).eq(Cat(*ranks[1:]))]
                with m.If(count == COMPARATORS - 1):
                    m.d.sync += [count.eq(0), first.eq(first + COMPARATORS)]
                    m.next = "load"
                    with m.If(first + COMPARATORS >= task.tokens):
                        m.next = "done"
            with m.State("done"):
                m.d.comb += self.task.ready.eq(1)
                m.next = "idle"
        self._place(m, ranks[0], first + count, starting)
        return m

    def _place(self, m: Module, rank: Signal, token: Value, starting: Value) -> None:
        """Write a token to the next place of the part that its rank belongs to."""
        task, low = self.task.p, Signal(ENTRY_BITS)
        m.d.comb += [low.eq(task.low + task.pruned), self.order.data.eq(token)]
        # High tokens first, then low ones, then those that are pruned.
        chosen = Cat(rank >= low, (rank < low) & (rank >= task.pruned), rank < task.pruned)
        starts = (0, task.tokens - low, task.tokens - task.pruned)
        for part, start in enumerate(starts):
            place = Signal(ENTRY_BITS, name=f"place_{part}")
            with m.If(starting):
                m.d.sync += place.eq(start)
            with m.If(chosen[part]):
                m.d.comb += self.order.address.eq(place)
                with m.If(self.order.valid):
                    m.d.sync += place.eq(place + 1)
