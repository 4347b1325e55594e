"""Double-buffered weight groups of one port, with the scales of the groups in flight."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig, bits_for
from hw.isa import FIELDS, Opcode
from hw.units.group_scaler import SCALE_BITS

SLOT_BITS = 3
"""Groups whose scales are kept: enough for those that the pipeline has not scaled yet."""


def chunk_bits(config: HardwareConfig) -> int:
    """Width of a chunk's index within its group."""
    return bits_for(config.group_max // config.simd_depth)


class WeightBuffer(wiring.Component):
    """Takes the groups of a port's region in order and serves one chunk of weights per cycle.

    Words behind the last group belong to the next instruction and are not taken.

    Weights alternate between two halves; a half is ``full`` from its last word until ``release``.
    Scales and minima go around ``2**SLOT_BITS`` slots and outlive their half, because scaling
    trails the multiplications. Reads take one cycle and keep their data while not enabled.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    start : In(1), take ``blocks * rounds / group_rounds`` groups from the next cycle on
    int8, has_min : In(1), last_chunk : In, index of a group's last chunk; rounds, group_rounds,
        blocks : In; constant while words come
    i : In(stream of port words)
    full : Out(2), halves that hold a whole group
    release : In(1), release_half : In(1), the half may be filled again
    weight_en : In(1), weight_half : In(1), weight_chunk : In
    bytes, nibbles : port_columns x Out(simd_depth * 8 or 4), int8 or int4 weights
    scale_en : In(1), slot : In(SLOT_BITS)
    scales, minima : port_columns x Out(signed(16))
    """

    i: stream.Interface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        columns = config.port_columns
        super().__init__({
            "start": In(1),
            "int8": In(1),
            "has_min": In(1),
            "rounds": In(FIELDS[Opcode.SIMD]["rounds"]),
            "group_rounds": In(FIELDS[Opcode.SIMD]["group_rounds"]),
            "blocks": In(FIELDS[Opcode.SIMD]["blocks"]),
            "last_chunk": In(chunk_bits(config)),
            "i": In(stream.Signature(config.port_bits)),
            "full": Out(2),
            "release": In(1),
            "release_half": In(1),
            "weight_en": In(1),
            "weight_half": In(1),
            "weight_chunk": In(chunk_bits(config)),
            "bytes": Out(config.simd_depth * 8).array(columns),
            "nibbles": Out(config.simd_depth * 4).array(columns),
            "scale_en": In(1),
            "slot": In(SLOT_BITS),
            "scales": Out(signed(SCALE_BITS)).array(columns),
            "minima": Out(signed(SCALE_BITS)).array(columns),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        chunk_words = config.port_columns * config.simd_depth * 8 // config.port_bits
        scale_words = config.port_columns * SCALE_BITS // config.port_bits

        half = Signal()
        slot = Signal(SLOT_BITS)
        word = Signal(range(chunk_words + scale_words))
        chunk = Signal(chunk_bits(config))
        section = Signal(2)
        scales, minima, weights = 0, 1, 2
        taken = self.i.valid & self.i.ready
        reading, group_taken = Signal(), Signal()
        m.d.comb += self.i.ready.eq(reading & ~self.full.bit_select(half, 1))
        with m.If(self.release):
            m.d.sync += self.full.bit_select(self.release_half, 1).eq(0)

        last_word = Signal.like(word)
        m.d.comb += last_word.eq(Mux(
            section != weights, scale_words - 1,
            Mux(self.int8, chunk_words - 1, chunk_words // 2 - 1),
        ))
        with m.If(taken):
            m.d.sync += word.eq(word + 1)
            with m.If(word == last_word):
                m.d.sync += word.eq(0)
                with m.If(section == scales):
                    m.d.sync += section.eq(Mux(self.has_min, minima, weights))
                with m.Elif(section == minima):
                    m.d.sync += section.eq(weights)
                with m.Elif(chunk != self.last_chunk):
                    m.d.sync += chunk.eq(chunk + 1)
                with m.Else():
                    m.d.comb += group_taken.eq(1)
                    m.d.sync += [
                        chunk.eq(0),
                        section.eq(scales),
                        slot.eq(slot + 1),
                        half.eq(~half),
                        self.full.bit_select(half, 1).eq(1),
                    ]

        rounds, next_rounds = Signal.like(self.rounds), Signal.like(self.rounds)
        block = Signal.like(self.blocks)
        m.d.comb += next_rounds.eq(rounds + self.group_rounds)
        with m.If(self.start):
            m.d.sync += [reading.eq(1), rounds.eq(0), block.eq(0)]
        with m.Elif(group_taken):
            m.d.sync += rounds.eq(next_rounds)
            with m.If(next_rounds == self.rounds):
                m.d.sync += [rounds.eq(0), block.eq(block + 1)]
                with m.If(block + 1 == self.blocks):
                    m.d.sync += reading.eq(0)

        write = Cat(chunk, half)
        read = Cat(self.weight_chunk, self.weight_half)
        whole = Cat(
            self._bank(m, f"weights{n}", 2 << chunk_bits(config),
                       taken & (section == weights) & (word == n), write, self.weight_en, read)
            for n in range(chunk_words)
        )
        for column in range(config.port_columns):
            m.d.comb += [
                self.bytes[column].eq(whole.word_select(column, config.simd_depth * 8)),
                self.nibbles[column].eq(whole.word_select(column, config.simd_depth * 4)),
            ]
        for name, member in (("scales", scales), ("minima", minima)):
            row = Cat(
                self._bank(m, f"{name}{n}", 1 << SLOT_BITS,
                           taken & (section == member) & (word == n), slot,
                           self.scale_en, self.slot)
                for n in range(scale_words)
            )
            for column, value in enumerate(getattr(self, name)):
                m.d.comb += value.eq(row.word_select(column, SCALE_BITS))
        return m

    def _bank(
        self, m: Module, name: str, depth: int, write_en: object, write_address: object,
        read_en: object, read_address: object,
    ) -> Signal:
        """Memory of port words, written from the stream; returns what its read port shows."""
        memory = Memory(shape=self.config.port_bits, depth=depth, init=[])
        m.submodules[name] = memory
        write, read = memory.write_port(), memory.read_port()
        m.d.comb += [
            write.en.eq(write_en),
            write.addr.eq(write_address),
            write.data.eq(self.i.payload),
            read.en.eq(read_en),
            read.addr.eq(read_address),
        ]
        return read.data
