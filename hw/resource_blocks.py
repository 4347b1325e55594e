"""What memories take of a device family: rules, no fitted numbers.

Shapes follow the vendors' primitives: AMD UG574 (memories in look-up tables), UG573 (blocks), AM007
(Versal), Lattice TN1264 (ECP5). Among them Yosys takes the one with the least cost, which is
the number of primitives by their weight and the multiplexers between them (``memory_libmap``); a
vendor's tool chooses by similar rules.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

URAM_DEPTH = 2048
"""Memories at least this deep and 72 bits wide go to UltraRAM where the device has it."""
URAM_BITS, URAM_ENTRIES = 72, 4096
GATE_COST = 0.5
"""Weight of a bit of a multiplexer between primitives, and of a write enable."""


@dataclass(frozen=True)
class Resources:
    """Device resources: look-up tables, flip-flops, 36 Kb block RAMs, UltraRAMs, DSP slices.

    lut: what a device table counts: 6-input tables after pairs of small functions share one; on
    ECP5 4-input tables. lut_cells: functions as Yosys counts them, one a table. bram36: a block of
    18 Kb counts as half. dsp: on ECP5 18 x 18 multipliers.
    """

    lut: float = 0
    lut_cells: float = 0
    ff: float = 0
    bram36: float = 0
    uram: float = 0
    dsp: float = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(
            lut=self.lut + other.lut, lut_cells=self.lut_cells + other.lut_cells,
            ff=self.ff + other.ff, bram36=self.bram36 + other.bram36, uram=self.uram + other.uram,
            dsp=self.dsp + other.dsp,
        )

    def __mul__(self, count: float) -> Resources:
        return Resources(
            lut=self.lut * count, lut_cells=self.lut_cells * count, ff=self.ff * count,
            bram36=self.bram36 * count, uram=self.uram * count, dsp=self.dsp * count,
        )

    def rounded(self) -> dict[str, float]:
        """What reports show: whole resources, half block RAMs, without ``lut_cells``."""
        return {
            "lut": math.ceil(self.lut), "ff": math.ceil(self.ff),
            "bram36": math.ceil(self.bram36 * 2) / 2, "uram": math.ceil(self.uram),
            "dsp": math.ceil(self.dsp),
        }


class Memory(NamedTuple):
    """A memory with one writer and one reader; ``granule`` bits have a write enable of their own.

    wide: it may go to UltraRAM. sharing: memories, or granules, that are written with the same data
    at the same address; alike: that are also read together.
    """

    width: int
    depth: int
    granule: int | None = None
    wide: bool = False
    sharing: int = 1
    alike: bool = False


@dataclass(frozen=True, kw_only=True)
class Primitive:
    """A way to use a memory primitive.

    width, depth: its shape. byte: bits of a write enable. cost: weight of one. scaled: only the
    used bits weigh. taken: what one takes.
    """

    width: int
    depth: int
    byte: int
    cost: float
    scaled: bool = False
    taken: Resources


def _blocks(bits: int, widths: tuple[int, ...], cost: float, taken: Resources) -> list[Primitive]:
    """The shapes of a block of ``bits`` addresses at width 1."""
    return [Primitive(width=width, depth=bits >> place, byte=min(width, 9), cost=cost, taken=taken)
            for place, width in enumerate(widths)]


def _tables(width: int, depth: int, cost: float, luts: int) -> Primitive:
    return Primitive(width=width, depth=depth, byte=width, cost=cost, scaled=True,
                     taken=Resources(lut=luts, lut_cells=luts))


ULTRASCALE = [
    _tables(14, 32, 16, 8), _tables(7, 64, 16, 8),
    *_blocks(1 << 14, (1, 2, 4, 9, 18, 36), 129, Resources(bram36=0.5)),
    *_blocks(1 << 15, (1, 2, 4, 9, 18, 36, 72), 257, Resources(bram36=1)),
]
PRIMITIVES = {
    "xilinx": ULTRASCALE,
    # Its block RAM has no narrower shapes (AM007).
    "versal": [one for one in ULTRASCALE if one.scaled or one.width >= 9],
    "ecp5": [
        # Two slices hold the bits, a third one writes them.
        Primitive(width=4, depth=16, byte=4, cost=4, taken=Resources(lut=6, lut_cells=6)),
        *_blocks(1 << 14, (1, 2, 4, 9, 18, 36), 128, Resources(bram36=0.5)),
    ],
}
"""By the flow of `hw.synthesis`, and for Versal, which Yosys has no flow for."""
PASSED = ("ecp5",)
"""Families whose blocks, as Yosys describes them, do not define what they read of a word that is
written in the same cycle: writes are kept for a cycle, and passed on to a read of the same word."""


@functools.lru_cache(maxsize=4096)
def memory(shape: Memory, family: str, uram: bool = False) -> Resources:
    """What a memory takes; ``uram``: the device has UltraRAM.

    Tables are read at once, so that the word read is kept in flip-flops, and so is the address
    bits' choice between blocks. Where blocks cannot read old words (`PASSED`), what is written and
    what is read of it are kept, with the address, and chosen by a multiplexer.
    """
    if uram and shape.wide and shape.depth >= URAM_DEPTH:
        # Its own cascade makes a memory deep (UG573).
        return Resources(uram=math.ceil(shape.width / URAM_BITS)
                         * math.ceil(shape.depth / URAM_ENTRIES))
    primitive = min(PRIMITIVES[family], key=lambda one: _cost(shape, one))
    count, rows = _count(shape, primitive)
    chosen = shape.width * mux_luts(rows, family)
    kept: float = (rows - 1).bit_length() if primitive.taken.bram36 else shape.width
    if primitive.taken.bram36 and family in PASSED:
        chosen += shape.width
        kept += _passed(shape)
    return primitive.taken * count + Resources(lut=chosen, lut_cells=chosen, ff=kept)


def _passed(shape: Memory) -> float:
    """Flip-flops of what is written, its address and enables, and of what a read takes of it."""
    written = (shape.width + (shape.depth - 1).bit_length()) / shape.sharing
    read = shape.width / (shape.sharing if shape.alike else 1)
    return written + read + 2 * _enables(shape)


def mux_luts(choices: int, family: str) -> int:
    """Tables of a one-bit multiplexer: 6-input ones for each 4 choices, 4-input ones for each 2."""
    return math.ceil((choices - 1) / (1 if family == "ecp5" else 3))


def _enables(shape: Memory) -> int:
    return shape.width // (shape.granule or shape.width)


def _count(shape: Memory, primitive: Primitive) -> tuple[int, int]:
    """Primitives, and how many stand behind each other in depth."""
    rows = math.ceil(shape.depth / primitive.depth)
    granule = shape.granule or shape.width
    bits = shape.width // granule * math.ceil(granule / primitive.byte) * primitive.byte
    return math.ceil(rows * bits / primitive.width), rows


def _cost(shape: Memory, primitive: Primitive) -> float:
    count, rows = _count(shape, primitive)
    if primitive.scaled:
        cost = primitive.cost * rows * shape.width / primitive.width
    else:
        cost = primitive.cost * count
    gates = (rows - 1) * shape.width + (rows * _enables(shape) if rows > 1 else 0)
    return cost + GATE_COST * gates
