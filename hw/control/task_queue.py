"""Instructions of one engine."""

from __future__ import annotations

from amaranth import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.isa import HEADER, INSTRUCTION_BITS, QUEUE_DEPTH, Engine
from hw.memory.fifo import Fifo


class TaskQueue(wiring.Component):
    """Queues instructions and runs one at a time, when its tokens are all there.

    An instruction starts in the cycle after it is at the head and has its tokens, which are taken
    at once. It is held valid on ``o`` until the engine is ready; that completes it and posts its
    tokens. The next one is offered 2 cycles later, or more.

    Members
    -------
    i : In(stream of 256 bits)
    o : Out(stream of 256 bits), the running instruction
    available : In, a bit for each engine that the next instruction could take a token of
    taken : Out, a bit for each engine that a token is taken of in this cycle
    posted : Out, a bit for each engine that gets a token in this cycle
    waiting : Out(1), the next instruction lacks tokens
    complete : Out(1), an instruction completes in this cycle
    empty : Out(1), no instruction waits or runs
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self) -> None:
        engines = len(Engine)
        super().__init__({
            "i": In(stream.Signature(INSTRUCTION_BITS)),
            "o": Out(stream.Signature(INSTRUCTION_BITS)),
            "available": In(engines),
            "taken": Out(engines),
            "posted": Out(engines),
            "waiting": Out(1),
            "complete": Out(1),
            "empty": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.queue = queue = Fifo(INSTRUCTION_BITS, QUEUE_DEPTH)
        layout = data.StructLayout(HEADER)
        header = Signal(layout)
        running, idle_head, lacking = Signal(), Signal(), Signal()
        m.d.comb += [
            queue.i.payload.eq(self.i.payload),
            queue.i.valid.eq(self.i.valid),
            self.i.ready.eq(queue.i.ready),
            header.eq(queue.o.payload[:layout.size]),
            idle_head.eq(queue.o.valid & ~running),
            lacking.eq((header.wait & ~self.available).any()),
            self.waiting.eq(idle_head & lacking),
            self.o.payload.eq(queue.o.payload),
            self.o.valid.eq(queue.o.valid & running),
            self.complete.eq(self.o.valid & self.o.ready),
            queue.o.ready.eq(self.complete),
            self.empty.eq(queue.level == 0),
        ]
        with m.If(idle_head & ~lacking):
            m.d.comb += self.taken.eq(header.wait)
            m.d.sync += running.eq(1)
        with m.If(self.complete):
            m.d.comb += self.posted.eq(header.post)
            m.d.sync += running.eq(0)
        return m
