"""Load engine: copies words from memory to the vector memory."""

from __future__ import annotations

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.interfaces import ReadCommand, Task, VectorWrite
from hw.isa import LINE_BYTES, Opcode


class LoadEngine(wiring.Component):
    """Write ``words`` port words from ``address`` on to ``destination`` on.

    One word a cycle; an instruction costs two cycles more than the words take to arrive.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    task : In(Task(LOAD))
    command : Out(ReadCommand), one for each instruction
    words : In(stream of port words)
    vector : Out(VectorWrite)
    """

    task: stream.Interface
    command: stream.Interface
    words: stream.Interface
    vector: stream.Interface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "task": In(Task(Opcode.LOAD)),
            "command": Out(ReadCommand()),
            "words": In(stream.Signature(config.port_bits)),
            "vector": Out(VectorWrite(config)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        task, vector = self.task, self.vector
        address, left = Signal(16), Signal(16)
        m.d.comb += [
            self.command.p.address.eq(task.p.address * LINE_BYTES),
            self.command.p.words.eq(task.p.words),
            vector.p.address.eq(address),
            vector.p.data.eq(self.words.payload),
        ]
        with m.FSM():
            with m.State("command"):
                m.d.comb += self.command.valid.eq(task.valid)
                m.d.sync += [address.eq(task.p.destination), left.eq(task.p.words)]
                with m.If(task.valid & self.command.ready):
                    m.next = "copy"
            with m.State("copy"):
                m.d.comb += [vector.valid.eq(self.words.valid), self.words.ready.eq(vector.ready)]
                with m.If(vector.valid & vector.ready):
                    m.d.sync += [address.eq(address + 1), left.eq(left - 1)]
                    with m.If(left == 1):
                        m.next = "complete"
            with m.State("complete"):
                m.d.comb += task.ready.eq(1)
                m.next = "command"
        return m
