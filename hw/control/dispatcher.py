"""Instructions go to the engines' queues and run when their tokens are there."""

from __future__ import annotations

from amaranth import Cat, Module, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import HardwareConfig
from hw.control.task_queue import TaskQueue
from hw.control.tokens import TokenCounts
from hw.interfaces import STORE_COUNT_BITS, Ahead
from hw.isa import ENGINE_OF, HEADER, INSTRUCTION_BITS, QUEUE_DEPTH, Engine, Opcode
from hw.memory.fifo import Fifo
from hw.verilog import module

ENGINES = len(Engine)


class Dispatcher(wiring.Component):
    """Runs a program: queues, token counts and the end of the program.

    Instructions are queued in program order, one a cycle; a full queue stops those behind. Each
    `TaskQueue` runs its engine's instructions in order, when their tokens are there. Those of the
    linear engine are also offered on ``ahead``, so that their weights can be read early; one is
    queued only when its copy has room, so somebody must take the copies.

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
    ahead : Out(Ahead()), every linear instruction in program order; start empties it
    stored : Out(STORE_COUNT_BITS), instructions that the store engine has completed, as ``ahead``
        counts those before a linear one
    finished : Out(1), END was taken, queues are empty and engines idle; until the next start
    error : Out(1), until the next start
    busy : Out, a bit for each engine: it runs an instruction
    waiting : Out, a bit for each engine: its next instruction lacks tokens
    completions : Out, a bit for each engine: it completes an instruction in this cycle
    completed : Out, for each engine the instructions it completed (modulo 2**16)
    """

    instructions: stream.Interface
    ahead: stream.Interface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "start": In(1),
            "instructions": In(stream.Signature(INSTRUCTION_BITS)),
            "tasks": Out(stream.Signature(INSTRUCTION_BITS)).array(ENGINES),
            "ahead": Out(Ahead()),
            "stored": Out(STORE_COUNT_BITS),
            "finished": Out(1),
            "error": Out(1),
            "busy": Out(ENGINES),
            "waiting": Out(ENGINES),
            "completions": Out(ENGINES),
            "completed": Out(data.ArrayLayout(16, ENGINES)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        queues = [module("task_queue", TaskQueue()) for _ in Engine]
        m.submodules.tokens = tokens = TokenCounts()
        for engine, queue in zip(Engine, queues, strict=True):
            m.submodules[f"queue_{engine.name.lower()}"] = queue
            connect(m, queue.o, flipped(self.tasks[engine]))
            m.d.comb += [
                queue.i.payload.eq(self.instructions.payload),
                queue.available.eq(tokens.available[engine]),
                tokens.taken[engine].eq(queue.taken),
                tokens.posted[engine].eq(queue.posted),
                self.busy[engine].eq(queue.o.valid),
                self.waiting[engine].eq(queue.waiting),
                self.completions[engine].eq(queue.complete),
            ]
            with m.If(self.start):
                m.d.sync += self.completed[engine].eq(0)
            with m.Elif(queue.complete):
                m.d.sync += self.completed[engine].eq(self.completed[engine] + 1)

        copies = Fifo(self.ahead.payload.shape(), QUEUE_DEPTH)
        m.submodules.copies = ResetInserter(self.start)(copies)
        connect(m, copies.o, flipped(self.ahead))
        linear = queues[Engine.LINEAR].i
        store, handed = queues[Engine.STORE], Signal(STORE_COUNT_BITS)
        m.d.comb += [
            copies.i.p.instruction.eq(self.instructions.payload), copies.i.p.stores.eq(handed),
        ]
        m.d.sync += [
            handed.eq(handed + (store.i.valid & store.i.ready)),
            self.stored.eq(self.stored + store.complete),
        ]

        ended, unknown = Signal(), Signal()
        with m.If(~ended & ~self.start):
            with m.Switch(self.instructions.payload[:HEADER["opcode"]]):
                for opcode, engine in ENGINE_OF.items():
                    with m.Case(opcode):
                        if engine == Engine.LINEAR:
                            m.d.comb += [
                                linear.valid.eq(self.instructions.valid & copies.i.ready),
                                copies.i.valid.eq(self.instructions.valid & linear.ready),
                                self.instructions.ready.eq(linear.ready & copies.i.ready),
                            ]
                            continue
                        m.d.comb += [
                            queues[engine].i.valid.eq(self.instructions.valid),
                            self.instructions.ready.eq(queues[engine].i.ready),
                        ]
                with m.Default():
                    m.d.comb += [
                        self.instructions.ready.eq(1),
                        unknown.eq(self.instructions.payload[:HEADER["opcode"]] != Opcode.END),
                    ]
                    m.d.sync += ended.eq(self.instructions.valid)
        m.d.comb += [
            tokens.clear.eq(self.start),
            self.finished.eq(ended & Cat(queue.empty for queue in queues).all()),
        ]
        with m.If(self.start):
            m.d.sync += [ended.eq(0), self.error.eq(0)]
        with m.Elif((self.instructions.valid & unknown) | tokens.overflow):
            m.d.sync += self.error.eq(1)
        return m
