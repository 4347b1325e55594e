"""Port words of the cache that are put together from several tokens."""

from __future__ import annotations

from amaranth import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig, bits_for
from hw.golden.cache import cache_max, cache_shift


class AppendBuffer(wiring.Component):
    """The parts of a vector word of some tokens.

    A word each cycle. Keys: part k holds chunk k of up to ``key_columns`` tokens, each at the place
    of its column. Values (``transpose``): part k holds an element of each of ``value_columns``
    columns, at the place of the token's input; there are up to simd_depth tokens. Values of 4 bits
    begin with an even token: the byte's other half is written as 0 where there is no odd one.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    transpose : In(1)
    clear : In(1), forget all tokens
    valid : In(1), word : In(word_elements int16), slot : In, of a token
    part : In, data : Out(port_bits), strobe : Out(port_bytes), elements of no token are 0
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        self.parts = max(config.chunks_per_word, config.word_elements // config.value_columns)
        super().__init__({
            "transpose": In(1),
            "clear": In(1),
            "valid": In(1),
            "word": In(data.ArrayLayout(signed(16), config.word_elements)),
            "slot": In(bits_for(max(config.key_columns, config.simd_depth))),
            "part": In(range(max(self.parts, 2))),
            "data": Out(config.port_bits),
            "strobe": Out(config.port_bytes),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, depth = self.config, self.config.simd_depth
        columns, inputs = Signal(config.key_columns), Signal(depth)
        column, place = self.slot[:bits_for(config.key_columns)], self.slot[:bits_for(depth)]
        with m.If(self.clear):
            m.d.sync += [columns.eq(0), inputs.eq(0)]
        with m.Elif(self.valid):
            m.d.sync += [columns.bit_select(column, 1).eq(1), inputs.bit_select(place, 1).eq(1)]
        keys = values = self.codes(m, config.key_bits)
        if config.value_bits != config.key_bits:
            values = self.codes(m, config.value_bits)
        # A cell is half a byte where keys or values have 4 bits, else a byte.
        cell_bits = min(config.key_bits, config.value_bits)
        key_cells, value_cells = config.key_bits // cell_bits, config.value_bits // cell_bits
        words = []
        for part in range(self.parts):
            cells: list[Value] = []
            for n in range(config.port_bits // cell_bits):
                key_column, key = divmod(n // key_cells, depth)
                value, value_input = divmod(n // value_cells, depth)
                key, value = key + depth * part, value + config.value_columns * part
                of_key, of_value = key < len(keys), value < len(values)
                enable = Mux(self.transpose, of_value and place == value_input,
                             of_key and column == key_column)
                key_half = keys[key].word_select(n % key_cells, cell_bits) if of_key else None
                value_half = values[value].word_select(
                    n % value_cells, cell_bits) if of_value else None
                chosen = Mux(self.transpose, value_half, key_half) if of_key and of_value \
                    else key_half if of_key else value_half
                cell = Signal(cell_bits, name=f"cell{part}_{n}")
                with m.If(self.valid & enable):
                    m.d.sync += cell.eq(chosen)
                cells.append(cell)
            words.append(Cat(cells))
        present = Signal(config.port_bits // cell_bits)
        per_byte = 8 // cell_bits
        m.d.comb += [
            present.eq(Mux(
                self.transpose,
                Cat([bit.replicate(value_cells) for bit in inputs] * config.value_columns),
                Cat(bit.replicate(depth * key_cells) for bit in columns))),
            self.strobe.eq(Cat(present[at:at + per_byte].any()
                               for at in range(0, len(present), per_byte))),
            self.data.eq(Array(words)[self.part]
                         & Cat(bit.replicate(cell_bits) for bit in present)),
        ]
        return m

    def codes(self, m: Module, bits: int) -> list[Value]:
        """The elements of the word in so many bits."""
        shift, most = cache_shift(bits), cache_max(bits)
        codes = []
        for n in range(self.config.word_elements):
            rounded = Signal(signed(bits + 1), name=f"rounded{bits}_{n}")
            m.d.comb += rounded.eq((self.word[n] + (1 << shift - 1)) >> shift)
            codes.append(Mux(rounded > most, most, Mux(rounded < -most, -most, rounded))[:bits])
        return codes
