"""Append engine: new keys and values go into the cache in memory."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig, bits_for
from hw.interfaces import ADDRESS_BITS, ReadCommand, Task, VectorRead
from hw.isa import LINE_BYTES, Opcode
from hw.memory.axi_write_master import WriteWords
from hw.units.append_buffer import AppendBuffer

SCALE_BYTES = 2
"""A group starts with a scale for each column of the port."""


class AppendEngine(wiring.Component):
    """Quantize rows and write them as columns (keys) or inputs (values) of SIMD weights.

    Heads come one behind the other. Tokens whose elements share port words go together:
    ``key_columns`` of them at most (keys), or simd_depth (values), from one multiple of that in
    ``slot`` to the next. Values of 4 bits begin with an even ``slot``. Writes are port words with
    byte strobes, in the order head, bundle of tokens, vector word, part; bytes without strobe are
    0. A vector word is read once. The parts of a word are simd_depth elements that one column of
    the array takes at once (keys), or ``value_columns`` elements whose columns share a port word
    (values). The parts of a vector word are one command; words between two chunks of a key go along
    without strobes, since memory takes them sooner than as many addresses. A vector word of a
    bundle takes a cycle for each token, about five, and one for each word. The instruction
    completes when the memory has answered all writes.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    task : In(Task(APPEND))
    vector : Out(VectorRead)
    command : Out(ReadCommand), one for each vector word of a bundle
    words : Out(WriteWords(config))
    idle : In(1), the write master has nothing left to write, and all responses
    events : Out({append_steps}), words that the write master took
    """

    task: stream.Interface
    vector: wiring.PureInterface
    command: stream.Interface
    words: stream.Interface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        self.shared_bits = bits_for(config.key_columns)
        self.key_parts = config.chunks_per_word
        self.value_parts = config.word_elements // config.value_columns
        self.chunk_words = config.port_columns // config.key_columns
        super().__init__({
            "task": In(Task(Opcode.APPEND)),
            "vector": Out(VectorRead(config)),
            "command": Out(ReadCommand()),
            "words": Out(WriteWords(config)),
            "idle": In(1),
            "events": Out(data.StructLayout({"append_steps": 1})),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, task, command, words = self.config, self.task, self.command, self.words
        m.submodules.buffer = buffer = AppendBuffer(config)
        slot = Signal(len(task.p.slot) + 1)
        heads_left, head_row = Signal.like(task.p.heads), Signal(16)
        tokens_left, words_left = Signal.like(task.p.tokens), Signal.like(task.p.words)
        rounds_left = Signal.like(task.p.group_rounds)
        bundle, reads_left = Signal.like(task.p.tokens), Signal.like(task.p.tokens)
        row, offset, source, read_slot = (
            Signal(16, name=name) for name in ("row", "offset", "source", "read_slot"))
        arriving, collecting = Signal(), Signal()
        word = Signal(config.port_bits)
        part = Signal.like(buffer.part)
        # The weight group of a key, or the port of a value, starts at ``region``.
        base, region, pointer = (Signal(ADDRESS_BITS, name=name)
                                 for name in ("base", "region", "pointer"))
        # Words without strobes that are left until the next chunk.
        between = Signal(range(max(self.chunk_words, 2)))
        following, region_rounds = Signal(ADDRESS_BITS), Signal.like(rounds_left)
        room, emit, begins, ends = Signal(), Signal(), Signal(), Signal()
        last_part, writes = Signal(), Signal()
        place, port_start = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)
        column_bits = bits_for(config.port_columns)
        depth_bits = bits_for(config.simd_depth)
        value_chunk = config.port_columns * config.simd_depth * config.value_bits // 8
        port = slot[column_bits:][:(config.lane_ports - 1).bit_length()]
        sharing = Signal.like(bundle)
        m.d.comb += [
            self.vector.request.payload.eq(source),
            self.events.append_steps.eq(words.valid & words.ready),
            begins.eq((part == 0) & writes),
            ends.eq(last_part & writes),
            writes.eq(between == 0),
            room.eq((~begins | ~command.valid | command.ready) & (~words.valid | words.ready)),
            port_start.eq(Mux(task.p.transpose, 0, port * task.p.port_stride * LINE_BYTES)),
            buffer.transpose.eq(task.p.transpose),
            buffer.valid.eq(collecting),
            buffer.word.eq(word),
            buffer.slot.eq(read_slot),
            buffer.part.eq(part),
        ]
        with m.If(task.p.transpose):
            m.d.comb += [
                last_part.eq(part == self.value_parts - 1),
                region_rounds.eq(config.port_columns // config.word_elements),
                following.eq(region + task.p.port_stride * LINE_BYTES),
                place.eq(slot[depth_bits:] << bits_for(value_chunk)),
                sharing.eq(config.simd_depth - slot[:depth_bits]),
            ]
        with m.Else():
            m.d.comb += [
                last_part.eq(part == self.key_parts - 1),
                region_rounds.eq(task.p.group_rounds),
                following.eq(region + task.p.group_words * config.port_bytes),
                # Columns that share a port word differ in their strobes only.
                place.eq(Cat(Const(0, bits_for(config.port_bytes)),
                             slot[self.shared_bits:column_bits])),
                sharing.eq((1 << self.shared_bits) - slot[:self.shared_bits]),
            ]

        with m.If(command.ready):
            m.d.sync += command.valid.eq(0)
        with m.If(words.ready):
            m.d.sync += words.valid.eq(0)
        with m.If(emit):
            m.d.sync += [
                words.valid.eq(1),
                words.p.data.eq(Mux(writes, buffer.data, 0)),
                words.p.strobe.eq(Mux(writes, buffer.strobe, 0)),
            ]
            with m.If(~writes):
                m.d.sync += between.eq(between - 1)
            with m.Elif(~last_part & ~task.p.transpose):
                m.d.sync += between.eq(self.chunk_words - 1)
            with m.If(writes):
                m.d.sync += part.eq(Mux(last_part, 0, part + 1))
            with m.If(begins):
                m.d.sync += [
                    command.valid.eq(1), command.p.address.eq(pointer + place),
                    command.p.words.eq(Mux(task.p.transpose, self.value_parts,
                                           (self.key_parts - 1) * self.chunk_words + 1)),
                ]
            with m.If(ends & (rounds_left == 1)):
                m.d.sync += [
                    region.eq(following), pointer.eq(following), rounds_left.eq(region_rounds),
                ]
            with m.Elif(ends):
                step = Mux(task.p.transpose, self.value_parts, self.key_parts * self.chunk_words)
                m.d.sync += [
                    pointer.eq(pointer + step * config.port_bytes),
                    rounds_left.eq(rounds_left - 1),
                ]

        # A word waits in a register between the vector memory and the rounding.
        m.d.sync += [
            arriving.eq(self.vector.request.valid & self.vector.request.ready),
            collecting.eq(arriving),
        ]
        with m.If(arriving):
            m.d.sync += word.eq(self.vector.data)
        with m.If(collecting):
            m.d.sync += read_slot.eq(read_slot + 1)
        with m.FSM():
            with m.State("start"):
                m.d.sync += [
                    base.eq(task.p.address * LINE_BYTES + task.p.offset * config.port_bytes
                            + SCALE_BYTES * config.port_columns),
                    head_row.eq(task.p.source), heads_left.eq(task.p.heads),
                ]
                with m.If(task.valid):
                    m.next = "head"
            with m.State("head"):
                m.d.sync += [
                    slot.eq(task.p.slot), row.eq(head_row), tokens_left.eq(task.p.tokens),
                ]
                m.next = "bundle"
            with m.State("bundle"):
                count = Mux(tokens_left < sharing, tokens_left, sharing)
                m.d.comb += buffer.clear.eq(1)
                m.d.sync += [
                    region.eq(base + port_start), pointer.eq(base + port_start),
                    rounds_left.eq(region_rounds), part.eq(0),
                    words_left.eq(task.p.words), source.eq(row), offset.eq(0), read_slot.eq(slot),
                    bundle.eq(count), reads_left.eq(count),
                ]
                m.next = "read"
            with m.State("read"):
                m.d.comb += self.vector.request.valid.eq(reads_left != 0)
                with m.If(self.vector.request.valid & self.vector.request.ready):
                    m.d.sync += [
                        source.eq(source + task.p.stride), reads_left.eq(reads_left - 1),
                    ]
                with m.If((reads_left == 0) & ~arriving):
                    m.next = "write"
            with m.State("write"):
                m.d.comb += emit.eq(room)
                with m.If(emit & ends):
                    m.d.sync += [
                        words_left.eq(words_left - 1), offset.eq(offset + 1),
                        source.eq(row + offset + 1), read_slot.eq(slot), reads_left.eq(bundle),
                    ]
                    m.next = "read"
                    with m.If(words_left == 1):
                        # The last read has left the row behind the bundle's, at this word.
                        m.d.sync += [
                            tokens_left.eq(tokens_left - bundle), slot.eq(slot + bundle),
                            row.eq(source - offset),
                        ]
                        m.next = "bundle"
                        with m.If(tokens_left == bundle):
                            m.d.sync += [
                                base.eq(base + task.p.cache_stride * LINE_BYTES),
                                head_row.eq(head_row + task.p.head_stride),
                                heads_left.eq(heads_left - 1),
                            ]
                            m.next = "head"
                            with m.If(heads_left == 1):
                                m.next = "answer"
            with m.State("answer"):
                m.d.comb += task.ready.eq(self.idle & ~command.valid & ~words.valid)
                with m.If(task.ready):
                    m.next = "start"
        return m
