"""Row rounding: computed row entries of fewer bits than the dot products."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import EXACT_ROW_BITS, HardwareConfig, bits_for
from hw.golden.lookup import row_offset
from hw.isa import FIELDS, Opcode


class RowRounding(wiring.Component):
    """Dot products shifted, rounded to nearest, saturated and made unsigned, without a register.

    An entry takes the bits above the shift and adds the one below them. It leaves its range where
    the bits above are not all the sign, or where that addition carries.

    Parameters
    ----------
    config : HardwareConfig, whose ``row_bits`` are below 16

    Members
    -------
    exact : In(row_entries x 16 bits), signed dot products
    shift : In(4), 0..16 - row_bits
    row : Out(row_entries x row_bits)
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "exact": In(config.row_entries * EXACT_ROW_BITS),
            "shift": In(FIELDS[Opcode.LUT]["row_shift"]),
            "row": Out(config.row_entries * config.row_bits),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits, most = self.config.row_bits, self.config.row_shift_max
        shift = self.shift[:bits_for(most + 1)]
        # Whether bit row_bits - 1 + place of a product stays above the entry's own bits.
        above = Signal(most)
        m.d.comb += above.eq(Cat(shift <= place for place in range(most)))
        row = []
        for entry in range(self.config.row_entries):
            dot = self.exact.word_select(entry, EXACT_ROW_BITS)
            sign = dot[-1]
            taken = Signal(bits + 1, name=f"taken_{entry}")
            rounded = Signal(bits + 1, name=f"rounded_{entry}")
            outside = Signal(name=f"outside_{entry}")
            others = Cat(bit ^ sign for bit in dot[bits - 1:-1])
            m.d.comb += [
                taken.eq(Cat(Const(0, 1), dot).bit_select(shift, bits + 1)),
                rounded.eq((taken[1:] ^ row_offset(bits)) + taken[0]),
                outside.eq((others & above).any()),
            ]
            limit = (~sign).replicate(bits)
            total = Mux(rounded[-1], Const((1 << bits) - 1, bits), rounded[:bits])
            row.append(Mux(outside, limit, total))
        m.d.comb += self.row.eq(Cat(row))
        return m
