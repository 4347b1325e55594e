"""Passes of the norm engine over its rows, and the reads for them."""

from __future__ import annotations

from enum import IntEnum

from amaranth import Array, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.interfaces import VectorRead, task_layout
from hw.isa import Opcode
from hw.memory.fifo import Fifo
from hw.units.row_walk import RowWalk
from hw.units.vector_reader import VectorReader

SLOT_BITS = 3
"""Rows under way are kept in a ring; there are at most 7."""
RESULT_LAG = 4
"""Rounds from a row's squares to its results: the root and the reciprocal of the rows between."""
ASKED = 4
"""Passes whose words may be asked for before the first of them is in use."""


class PassKind(IntEnum):
    """What a pass over a row finds."""

    PEAK = 0
    SUM = 1
    SQUARES = 2
    RESULTS = 3


PASS = data.StructLayout({"kind": PassKind, "slot": SLOT_BITS})
"""A pass over the row of a slot."""


class NormPasses(wiring.Component):
    """Reads rows pass by pass, those of several rows in turn.

    Round r takes the peak of row r, if ``center`` the sum of row r - 1, the squares of the row
    whose exponent or mean the round before has found, and the results of the row `RESULT_LAG`
    rounds behind that; a pass without a row is left out. A word a cycle; `o` says whose words come
    next, 2 cycles before the first of them. A row is written, if it is replaced, while its last
    pass reads it.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    start : In(1), begin with row 0
    task : In(Task(NORM).payload), held from ``start`` on
    o : Out(stream of PASS)
    words : Out(stream of vector words) of the passes of `o`, in their order
    busy : Out(1), there are words to be asked for or passes to be taken
    memory : Out(VectorRead)
    """

    o: stream.Interface
    words: stream.Interface
    memory: wiring.PureInterface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "start": In(1),
            "task": In(task_layout(Opcode.NORM)),
            "o": Out(stream.Signature(PASS)),
            "words": Out(stream.Signature(config.port_bits)),
            "busy": Out(1),
            "memory": Out(VectorRead(config)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        following = stream.Signature(
            data.StructLayout({"pass_": PASS, "row": 16})
        ).create(path=("following",))
        active = self._order(m, following)

        m.submodules.queue = queue = Fifo(PASS, ASKED)
        m.submodules.reader = reader = VectorReader(self.config)
        wiring.connect(m, reader.memory, wiring.flipped(self.memory))
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        wiring.connect(m, reader.o, wiring.flipped(self.words))
        asking, last = Signal(), Signal()
        address, left = Signal(16), Signal(13)
        m.d.comb += [
            reader.i.valid.eq(asking),
            reader.i.payload.eq(address),
            last.eq(asking & reader.i.ready & (left == 1)),
            following.ready.eq(queue.i.ready & (~asking | last)),
            queue.i.valid.eq(following.valid & (~asking | last)),
            queue.i.payload.eq(following.p.pass_),
            self.busy.eq(active | following.valid | asking | (queue.level != 0)),
        ]
        with m.If(following.valid & following.ready):
            m.d.sync += [
                asking.eq(1),
                address.eq(following.p.row),
                left.eq(Mux(self.task.wide, self.task.words << 1, self.task.words)),
            ]
        with m.Elif(asking & reader.i.ready):
            m.d.sync += [address.eq(address + 1), left.eq(left - 1), asking.eq(~last)]
        return m

    def _order(self, m: Module, o: stream.Interface) -> Signal:
        """Offer the passes and the addresses of their rows; returns whether more will come."""
        task = self.task
        m.submodules.rows = rows = RowWalk()
        m.submodules.addresses = addresses = Memory(shape=16, depth=1 << SLOT_BITS, init=[])
        write, read = addresses.write_port(), addresses.read_port(domain="comb")
        kind, slot = Signal(PassKind), Signal(SLOT_BITS)
        active, more, room = Signal(), Signal(), Signal()
        square_lag = Mux(task.center, 2, 1)
        result_lag = square_lag + RESULT_LAG
        # Bit k: a row's peak was asked for k rounds ago.
        begun = Signal(3 + RESULT_LAG)
        pending = Mux(task.center, begun[:-1], begun[:-2]).any()
        exists, of_slot = Signal(), Signal(SLOT_BITS)
        beginning = kind == PassKind.PEAK
        m.d.comb += [
            exists.eq(Array([
                more, task.center & begun[1], Mux(task.center, begun[2], begun[1]),
                Mux(task.center, begun[-1], begun[-2]),
            ])[kind]),
            of_slot.eq(slot - Array([0, 1, square_lag, result_lag])[kind]),
            room.eq(~o.valid | o.ready),
            rows.start.eq(self.start),
            rows.base.eq(task.source),
            rows.stride.eq(task.stride),
            rows.head_stride.eq(task.head_stride),
            rows.tokens.eq(task.tokens),
            rows.heads.eq(task.heads),
            rows.step.eq(active & more & room & beginning),
            write.en.eq(rows.step),
            write.addr.eq(slot),
            write.data.eq(rows.row),
            read.addr.eq(of_slot),
        ]
        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        with m.If(self.start):
            m.d.sync += [active.eq(1), more.eq(1), begun.eq(0), kind.eq(PassKind.PEAK), slot.eq(0)]
        with m.Elif(active & (~exists | room)):
            m.d.sync += [
                o.valid.eq(exists | (o.valid & ~o.ready)),
                kind.eq(kind + 1),
            ]
            with m.If(exists):
                m.d.sync += [
                    o.p.pass_.kind.eq(kind), o.p.pass_.slot.eq(of_slot),
                    o.p.row.eq(Mux(beginning, rows.row, read.data)),
                ]
            with m.If(beginning):
                m.d.sync += [begun[0].eq(more), more.eq(more & ~rows.last)]
            with m.If(kind == PassKind.RESULTS):
                m.d.sync += [begun.eq(begun << 1), slot.eq(slot + 1), active.eq(more | pending)]
        return active
