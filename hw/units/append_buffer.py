"""Port words of the cache that are put together from several tokens."""

from __future__ import annotations

from amaranth import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig, bits_for
from hw.golden.cache import CACHE_SHIFT

BYTE_MAX = 127


class AppendBuffer(wiring.Component):
    """The parts of a vector word of up to ``port_bytes / simd_depth`` tokens, as int8.

    A word each cycle. Keys: part k holds chunk k of each token, at the place of its column. Values
    (``transpose``): part k holds a byte of each of ``port_bytes / simd_depth`` columns, at the
    place of the token's input; there are up to simd_depth tokens.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    transpose : In(1)
    clear : In(1), forget all tokens
    valid : In(1), word : In(word_elements int16), slot : In, of a token
    part : In, data : Out(port_bits), strobe : Out(port_bytes), bytes of no token are 0
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        self.shared = config.port_bytes // config.simd_depth
        self.parts = max(config.chunks_per_word, config.word_elements // self.shared)
        super().__init__({
            "transpose": In(1),
            "clear": In(1),
            "valid": In(1),
            "word": In(data.ArrayLayout(signed(16), config.word_elements)),
            "slot": In(bits_for(max(self.shared, config.simd_depth))),
            "part": In(range(max(self.parts, 2))),
            "data": Out(config.port_bits),
            "strobe": Out(config.port_bytes),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, depth, shared = self.config, self.config.simd_depth, self.shared
        codes = []
        for n in range(config.word_elements):
            element = self.word[n]
            rounded = Signal(signed(17 - CACHE_SHIFT), name=f"rounded{n}")
            m.d.comb += rounded.eq((element + (1 << CACHE_SHIFT - 1)) >> CACHE_SHIFT)
            codes.append(Mux(rounded > BYTE_MAX, BYTE_MAX,
                             Mux(rounded < -BYTE_MAX, -BYTE_MAX, rounded))[:8])

        columns, inputs = Signal(shared), Signal(depth)
        column, place = self.slot[:bits_for(shared)], self.slot[:bits_for(depth)]
        with m.If(self.clear):
            m.d.sync += [columns.eq(0), inputs.eq(0)]
        with m.Elif(self.valid):
            m.d.sync += [columns.bit_select(column, 1).eq(1), inputs.bit_select(place, 1).eq(1)]
        words = []
        for part in range(self.parts):
            cells: list[Value] = []
            for byte in range(config.port_bytes):
                key, value = depth * part + byte % depth, shared * part + byte // depth
                cell = Signal(8, name=f"cell{part}_{byte}")
                of_key, of_value = key < len(codes), value < len(codes)
                enable = Mux(
                    self.transpose, of_value and place == byte % depth,
                    of_key and column == byte // depth)
                chosen = Mux(self.transpose, codes[value], codes[key]) if of_key and of_value \
                    else codes[key] if of_key else codes[value]
                with m.If(self.valid & enable):
                    m.d.sync += cell.eq(chosen)
                cells.append(cell)
            words.append(Cat(cells))
        strobe = Mux(
            self.transpose, Cat([inputs] * shared), Cat(bit.replicate(depth) for bit in columns))
        m.d.comb += [
            self.strobe.eq(strobe),
            self.data.eq(Array(words)[self.part] & Cat(bit.replicate(8) for bit in self.strobe)),
        ]
        return m
