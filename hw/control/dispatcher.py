"""Instructions go to the engines' queues and run when their tokens are there."""

from __future__ import annotations

from amaranth import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.control.tokens import TokenCounts
from hw.isa import ENGINE_OF, HEADER, INSTRUCTION_BITS, Engine, Opcode
from hw.memory.fifo import Fifo
from hw.verilog import module

QUEUE_DEPTH = 4
"""Instructions that wait for one engine, the running one included."""
HEADER_LAYOUT = data.StructLayout(HEADER)
HEADER_BITS = HEADER_LAYOUT.size
ENGINES = len(Engine)


class Dispatcher(wiring.Component):
    """Runs a program: queues, token counts and the end of the program.

    Instructions are queued in program order, one a cycle; a full queue stops those behind. An
    instruction starts in the cycle after its tokens are all there (they are taken at once); its
    task is then held valid until the engine is ready, which completes it and posts its tokens. The
    next instruction of the same engine starts 2 cycles later, or more.

    An unknown opcode ends the program as END does, and sets ``error``; so does a token that is
    lost because its count is full, but the program goes on.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    start : In(1), pulse: expect a new program, forget tokens, counts and error
    instructions : In(stream of 256 bits)
    tasks : Out(stream of 256 bits), an array over engines
    finished : Out(1), END was taken, queues are empty and engines idle; until the next start
    error : Out(1), until the next start
    busy : Out, a bit for each engine: it runs an instruction
    waiting : Out, a bit for each engine: its next instruction lacks tokens
    completions : Out, a bit for each engine: it completes an instruction in this cycle
    completed : Out, for each engine the instructions it completed (modulo 2**16)
    """

    instructions: stream.Interface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "start": In(1),
            "instructions": In(stream.Signature(INSTRUCTION_BITS)),
            "tasks": Out(stream.Signature(INSTRUCTION_BITS)).array(ENGINES),
            "finished": Out(1),
            "error": Out(1),
            "busy": Out(ENGINES),
            "waiting": Out(ENGINES),
            "completions": Out(ENGINES),
            "completed": Out(data.ArrayLayout(16, ENGINES)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        queues = [module("task_queue", Fifo(INSTRUCTION_BITS, QUEUE_DEPTH)) for _ in Engine]
        for engine, queue in zip(Engine, queues, strict=True):
            m.submodules[f"queue_{engine.name.lower()}"] = queue

        ended = Signal()
        with m.If(self.start):
            m.d.sync += [ended.eq(0), self.error.eq(0)]
        with m.Else():
            with m.Switch(self.instructions.payload[:HEADER["opcode"]]):
                for opcode, engine in ENGINE_OF.items():
                    queue = queues[engine]
                    with m.Case(opcode):
                        m.d.comb += [
                            self.instructions.ready.eq(queue.i.ready & ~ended),
                            queue.i.valid.eq(self.instructions.valid & ~ended),
                        ]
                with m.Case(Opcode.END):
                    m.d.comb += self.instructions.ready.eq(~ended)
                    m.d.sync += ended.eq(ended | self.instructions.valid)
                with m.Default():
                    m.d.comb += self.instructions.ready.eq(~ended)
                    m.d.sync += ended.eq(ended | self.instructions.valid)
                    with m.If(self.instructions.valid & ~ended):
                        m.d.sync += self.error.eq(1)

        m.submodules.tokens = tokens = TokenCounts()
        m.d.comb += [
            tokens.clear.eq(self.start),
            self.finished.eq(ended & ~Cat(queue.level for queue in queues).any()),
        ]
        with m.If(tokens.overflow & ~self.start):
            m.d.sync += self.error.eq(1)
        for engine, queue in zip(Engine, queues, strict=True):
            task = self.tasks[engine]
            header = Signal(HEADER_LAYOUT, name=f"header_{engine.name.lower()}")
            running = self.busy[engine]
            lacking = Signal(name=f"lacking_{engine.name.lower()}")
            idle_head = queue.o.valid & ~running
            complete = self.completions[engine]
            m.d.comb += [
                queue.i.payload.eq(self.instructions.payload),
                header.eq(queue.o.payload[:HEADER_BITS]),
                lacking.eq((header.wait & ~tokens.available[engine]).any()),
                self.waiting[engine].eq(idle_head & lacking),
                task.payload.eq(queue.o.payload),
                task.valid.eq(running),
                complete.eq(running & task.ready),
                queue.o.ready.eq(complete),
            ]
            with m.If(idle_head & ~lacking):
                m.d.comb += tokens.taken[engine].eq(header.wait)
                m.d.sync += running.eq(1)
            with m.If(complete):
                m.d.comb += tokens.posted[engine].eq(header.post)
                m.d.sync += [
                    running.eq(0),
                    self.completed[engine].eq(self.completed[engine] + 1),
                ]
            with m.If(self.start):
                m.d.sync += self.completed[engine].eq(0)
        return m
