"""Queue between two streams."""

from __future__ import annotations

from typing import Any

from amaranth import Module, Value
from amaranth.hdl import Shape
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out


class Fifo(wiring.Component):
    """First in, first out, in a memory with one synchronous read and one write port.

    One payload a cycle; one that enters an empty queue is offered 2 cycles later.

    Parameters
    ----------
    shape : shape of the payloads
    depth : payloads it holds, 4 or more (a queue that short could refuse one before it is full)

    Members
    -------
    i : In(stream of shape)
    o : Out(stream of shape)
    level : Out, payloads inside, one that is offered included
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, shape: Any, depth: int) -> None:
        if depth < 4:
            raise ValueError(f"depth must be 4 or more, not {depth}")
        self.depth = depth
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
            "level": Out(range(depth + 1)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        payload = Value.cast(self.i.payload)
        width = Shape.cast(payload.shape()).width
        m.submodules.queue = queue = SyncFIFOBuffered(width=width, depth=self.depth)
        m.d.comb += [
            queue.w_data.eq(payload),
            queue.w_en.eq(self.i.valid),
            self.i.ready.eq(queue.w_rdy),
            Value.cast(self.o.payload).eq(queue.r_data),
            self.o.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.o.ready),
            self.level.eq(queue.level),
        ]
        return m
