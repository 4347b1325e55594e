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
    """Quantize rows to int8 and write them as columns (keys) or inputs (values) of SIMD weights.

    Tokens whose elements share port words go together: port_bytes / simd_depth of them at most
    (keys), or simd_depth (values), from one multiple of that in ``slot`` to the next. Writes are
    single port words with byte strobes, in the order bundle of tokens, vector word, part; bytes
    without strobe are 0. A vector word is read once. The parts of a word are simd_depth elements
    that one column of the array takes at once (keys), or port_bytes / simd_depth elements whose
    columns share a port word (values). A vector word of a bundle takes a cycle for each token, two,
    and about three cycles a write, as the write master takes them. The instruction completes when
    the memory has answered all writes.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    task : In(Task(APPEND))
    vector : Out(VectorRead)
    command : Out(ReadCommand), one for each write
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
        self.shared_bits = bits_for(config.port_bytes // config.simd_depth)
        self.key_parts = config.chunks_per_word
        self.value_parts = config.word_elements >> self.shared_bits
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
        region_words = config.port_columns * config.simd_depth // config.port_bytes
        slot = Signal(len(task.p.slot) + 1)
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
        in_region = Signal(range(max(region_words, 2)))
        following = Signal(ADDRESS_BITS)
        room, emit, last_part, region_ends = Signal(), Signal(), Signal(), Signal()
        place, port_start = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)
        column_bits = bits_for(config.port_columns)
        depth_bits = bits_for(config.simd_depth)
        port = slot[column_bits:][:(config.weight_ports - 1).bit_length()]
        sharing = Signal.like(bundle)
        m.d.comb += [
            self.vector.request.payload.eq(source),
            self.events.append_steps.eq(words.valid & words.ready),
            room.eq((~command.valid | command.ready) & (~words.valid | words.ready)),
            command.p.words.eq(1),
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
                region_ends.eq(in_region == region_words - 1),
                following.eq(region + task.p.port_stride * LINE_BYTES),
                place.eq(slot[depth_bits:] << (column_bits + depth_bits)),
                sharing.eq(config.simd_depth - slot[:depth_bits]),
            ]
        with m.Else():
            m.d.comb += [
                last_part.eq(part == self.key_parts - 1),
                region_ends.eq(last_part & (rounds_left == 1)),
                following.eq(region + task.p.group_words * config.port_bytes),
                # Columns that share a port word differ in their strobes only.
                place.eq(Cat(Const(0, self.shared_bits + depth_bits),
                             slot[self.shared_bits:column_bits])),
                sharing.eq((1 << self.shared_bits) - slot[:self.shared_bits]),
            ]

        with m.If(command.ready):
            m.d.sync += command.valid.eq(0)
        with m.If(words.ready):
            m.d.sync += words.valid.eq(0)
        with m.If(emit):
            m.d.sync += [
                command.valid.eq(1), command.p.address.eq(pointer + place),
                words.valid.eq(1), words.p.data.eq(buffer.data), words.p.strobe.eq(buffer.strobe),
                part.eq(Mux(last_part, 0, part + 1)),
                in_region.eq(Mux(region_ends, 0, in_region + 1)),
            ]
            with m.If(region_ends):
                m.d.sync += [
                    region.eq(following), pointer.eq(following),
                    rounds_left.eq(task.p.group_rounds),
                ]
            with m.Else():
                step = Mux(task.p.transpose, config.port_bytes,
                           config.port_columns * config.simd_depth)
                m.d.sync += [pointer.eq(pointer + step), rounds_left.eq(rounds_left - last_part)]

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
                    slot.eq(task.p.slot), row.eq(task.p.source), tokens_left.eq(task.p.tokens),
                ]
                with m.If(task.valid):
                    m.next = "bundle"
            with m.State("bundle"):
                count = Mux(tokens_left < sharing, tokens_left, sharing)
                m.d.comb += buffer.clear.eq(1)
                m.d.sync += [
                    region.eq(base + port_start), pointer.eq(base + port_start),
                    rounds_left.eq(task.p.group_rounds), in_region.eq(0), part.eq(0),
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
                with m.If(emit & last_part):
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
                            m.next = "answer"
            with m.State("answer"):
                m.d.comb += task.ready.eq(self.idle & ~command.valid & ~words.valid)
                with m.If(task.ready):
                    m.next = "start"
        return m
