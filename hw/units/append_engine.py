"""Append engine: new keys and values go into the cache in memory."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig, bits_for
from hw.golden.cache import CACHE_SHIFT
from hw.interfaces import ADDRESS_BITS, ReadCommand, Task, VectorRead
from hw.isa import LINE_BYTES, Opcode
from hw.memory.axi_write_master import WriteWords

ELEMENT_BITS = 16
BYTE_MAX = 127
SCALE_BYTES = 2
"""A group starts with a scale for each column of the port."""


class AppendEngine(wiring.Component):
    """Quantize rows to int8 and write them as columns (keys) or inputs (values) of SIMD weights.

    Writes are single port words with byte strobes, in the order token, vector word, part; bytes
    without strobe are 0. A vector word is read once. The parts of a word are simd_depth elements
    that one column of the array takes at once (keys), or port_bytes / simd_depth elements whose
    columns share a port word (values). About three cycles a write, as the write master takes them,
    and four more a vector word. The instruction completes when the memory has answered all writes.

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
        region_words = config.port_columns * config.simd_depth // config.port_bytes
        slot = Signal(len(task.p.slot) + 1)
        tokens_left, words_left = Signal.like(task.p.tokens), Signal.like(task.p.words)
        rounds_left = Signal.like(task.p.group_rounds)
        row, source = Signal(16), Signal(16)
        part = Signal(range(max(self.key_parts, self.value_parts, 2)))
        word = Signal(config.port_bits)
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
        m.d.comb += [
            self.vector.request.payload.eq(source),
            self.events.append_steps.eq(words.valid & words.ready),
            room.eq((~command.valid | command.ready) & (~words.valid | words.ready)),
            command.p.words.eq(1),
            port_start.eq(Mux(task.p.transpose, 0, port * task.p.port_stride * LINE_BYTES)),
        ]
        with m.If(task.p.transpose):
            m.d.comb += [
                last_part.eq(part == self.value_parts - 1),
                region_ends.eq(in_region == region_words - 1),
                following.eq(region + task.p.port_stride * LINE_BYTES),
                place.eq(slot[depth_bits:] << (column_bits + depth_bits)),
            ]
        with m.Else():
            m.d.comb += [
                last_part.eq(part == self.key_parts - 1),
                region_ends.eq(last_part & (rounds_left == 1)),
                following.eq(region + task.p.group_words * config.port_bytes),
                # Columns that share a port word differ in their strobes only.
                place.eq(Cat(Const(0, self.shared_bits + depth_bits),
                             slot[self.shared_bits:column_bits])),
            ]

        with m.If(command.ready):
            m.d.sync += command.valid.eq(0)
        with m.If(words.ready):
            m.d.sync += words.valid.eq(0)
        with m.If(emit):
            m.d.sync += [
                command.valid.eq(1), command.p.address.eq(pointer + place),
                words.valid.eq(1),
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
        self._words(m, slot, word, emit)

        with m.FSM():
            with m.State("start"):
                m.d.sync += [
                    base.eq(task.p.address * LINE_BYTES + task.p.offset * config.port_bytes
                            + SCALE_BYTES * config.port_columns),
                    slot.eq(task.p.slot), row.eq(task.p.source), tokens_left.eq(task.p.tokens),
                ]
                with m.If(task.valid):
                    m.next = "token"
            with m.State("token"):
                m.d.sync += [
                    region.eq(base + port_start), pointer.eq(base + port_start),
                    rounds_left.eq(task.p.group_rounds), in_region.eq(0), part.eq(0),
                    words_left.eq(task.p.words), source.eq(row),
                ]
                m.next = "read"
            with m.State("read"):
                m.d.comb += self.vector.request.valid.eq(1)
                with m.If(self.vector.request.ready):
                    m.next = "arrive"
            with m.State("arrive"):
                m.d.sync += word.eq(self.vector.data)
                m.next = "write"
            with m.State("write"):
                m.d.comb += emit.eq(room)
                with m.If(emit & last_part):
                    m.d.sync += [words_left.eq(words_left - 1), source.eq(source + 1)]
                    m.next = "read"
                    with m.If(words_left == 1):
                        m.d.sync += [
                            tokens_left.eq(tokens_left - 1), slot.eq(slot + 1),
                            row.eq(row + task.p.stride),
                        ]
                        m.next = "token"
                        with m.If(tokens_left == 1):
                            m.next = "answer"
            with m.State("answer"):
                m.d.comb += task.ready.eq(self.idle & ~command.valid & ~words.valid)
                with m.If(task.ready):
                    m.next = "start"
        return m

    def _words(self, m: Module, slot: Value, word: Signal, emit: Value) -> None:
        """Quantize the next part of the word and put it where its column or input lies."""
        config, transpose, words = self.config, self.task.p.transpose, self.words
        depth, shared = config.simd_depth, 1 << self.shared_bits
        codes = []
        for n in range(max(depth, shared)):
            element = word[ELEMENT_BITS * n:ELEMENT_BITS * (n + 1)].as_signed()
            rounded = Signal(signed(ELEMENT_BITS + 1 - CACHE_SHIFT), name=f"rounded_{n}")
            m.d.comb += rounded.eq((element + (1 << CACHE_SHIFT - 1)) >> CACHE_SHIFT)
            codes.append(Mux(rounded > BYTE_MAX, BYTE_MAX,
                             Mux(rounded < -BYTE_MAX, -BYTE_MAX, rounded))[:8])
        key, key_strobe = Cat(codes[:depth]), (1 << depth) - 1
        value = Cat(Cat(code, Const(0, 8 * (depth - 1))) for code in codes[:shared])
        value_strobe = sum(1 << depth * n for n in range(shared))
        with m.If(emit & transpose):
            m.d.sync += word.eq(word >> shared * ELEMENT_BITS)
            with m.Switch(slot[:depth.bit_length() - 1]):
                for n in range(depth):
                    with m.Case(n):
                        m.d.sync += [
                            words.p.data.eq(value << 8 * n), words.p.strobe.eq(value_strobe << n),
                        ]
        with m.Elif(emit):
            m.d.sync += word.eq(word >> depth * ELEMENT_BITS)
            with m.Switch(slot[:self.shared_bits]):
                for n in range(shared):
                    with m.Case(n):
                        m.d.sync += [
                            words.p.data.eq(key << 8 * depth * n),
                            words.p.strobe.eq(key_strobe << depth * n),
                        ]
