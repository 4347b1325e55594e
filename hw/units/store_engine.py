"""Store engine: copies words from the vector memory to memory."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.interfaces import ReadCommand, Task, VectorRead
from hw.isa import LINE_BYTES, Opcode
from hw.memory.axi_write_master import WriteWords


class StoreEngine(wiring.Component):
    """Write ``words`` port words from ``source`` on to memory from ``address`` on.

    One word a cycle. The instruction completes when the memory has answered the last write.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    task : In(Task(STORE))
    vector : Out(VectorRead)
    command : Out(stream of {address, words}), one for each instruction, for the write master
    words : Out(WriteWords(config)), offered after the command was taken
    idle : In(1), the write master has nothing left to write, and all responses
    """

    task: stream.Interface
    vector: wiring.PureInterface
    command: stream.Interface
    words: stream.Interface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "task": In(Task(Opcode.STORE)),
            "vector": Out(VectorRead(config)),
            "command": Out(ReadCommand()),
            "words": Out(WriteWords(config)),
            "idle": In(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        task, vector, words = self.task, self.vector, self.words
        address, left = Signal(16), Signal(16)
        arriving, kept, requesting = Signal(), Signal(), Signal()
        kept_word = Signal(self.config.port_bits)
        m.d.comb += [
            self.command.p.address.eq(task.p.address * LINE_BYTES),
            self.command.p.words.eq(task.p.words),
            vector.request.payload.eq(address),
            words.valid.eq(arriving | kept),
            words.p.data.eq(Mux(kept, kept_word, vector.data)),
            words.p.strobe.eq(~0),
        ]
        m.d.sync += [
            arriving.eq(vector.request.valid & vector.request.ready),
            kept.eq(words.valid & ~words.ready),
        ]
        with m.If(arriving):
            m.d.sync += kept_word.eq(vector.data)
        # A request once offered stays offered, so it waits until the word before it has left:
        # then its own word finds room whenever it arrives.
        m.d.comb += vector.request.valid.eq(requesting & (left != 0))

        with m.FSM():
            with m.State("command"):
                m.d.comb += self.command.valid.eq(task.valid)
                m.d.sync += [address.eq(task.p.source), left.eq(task.p.words)]
                with m.If(task.valid & self.command.ready):
                    m.next = "copy"
            with m.State("copy"):
                m.d.comb += requesting.eq(~words.valid | words.ready)
                with m.If(vector.request.valid & vector.request.ready):
                    m.d.sync += [address.eq(address + 1), left.eq(left - 1)]
                with m.If((left == 0) & words.valid & words.ready):
                    m.next = "answer"
            with m.State("answer"):
                m.d.comb += task.ready.eq(self.idle)
                with m.If(self.idle):
                    m.next = "command"
        return m
