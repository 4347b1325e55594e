"""Resource estimate from the configuration: a model, to be read with its uncertainty.

Counts per block follow the vendors' primitives (AMD UG474/UG974 for multiplexers, UG573/UG1099
memory shapes, DSP48E2/DSP58 widths). Synthesis with Yosys is the check (`hw.synthesis`,
docs/measured/synthesis.json): it counts 37 % more LUTs and 36 % more flip-flops for `tiny` and 1 %
more DSPs. A vendor's tool packs two small LUTs into one site, which Yosys does not.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from hw.config import ROW_ENTRIES, HardwareConfig
from hw.presets import CONFIGS, check_keys, load_yaml

MUX16_LUTS = 5
"""LUT6 of a one-bit 16:1 multiplexer without wide-function multiplexers (Versal); 4 with them."""
LUTRAM_DEPTH = 64
"""Memories up to this depth are built from LUTs."""
URAM_DEPTH = 2048
"""Memories at least this deep and 72 bits wide go to UltraRAM where the device has it."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Device resources: 6-input LUTs, flip-flops, 36 Kb block RAMs, UltraRAMs, DSP slices."""

    lut: float = 0
    ff: float = 0
    bram36: float = 0
    uram: float = 0
    dsp: float = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(
            lut=self.lut + other.lut, ff=self.ff + other.ff, bram36=self.bram36 + other.bram36,
            uram=self.uram + other.uram, dsp=self.dsp + other.dsp,
        )

    def __mul__(self, count: int) -> Resources:
        return Resources(
            lut=self.lut * count, ff=self.ff * count, bram36=self.bram36 * count,
            uram=self.uram * count, dsp=self.dsp * count,
        )

    def rounded(self) -> dict[str, float]:
        """Whole resources (half block RAMs), for reports."""
        return {
            "lut": math.ceil(self.lut), "ff": math.ceil(self.ff),
            "bram36": math.ceil(self.bram36 * 2) / 2, "uram": math.ceil(self.uram),
            "dsp": math.ceil(self.dsp),
        }


@dataclass(frozen=True, kw_only=True)
class Device:
    """What a device holds, and the energy table that describes its process.

    luts_per_lut6, multipliers_per_dsp: what a modelled LUT6 or DSP slice takes on this device.
    """

    name: str
    title: str
    lut: int
    ff: int
    bram36: float
    uram: int
    dsp: int
    memory_gb_per_s: float
    energy: str
    source: str
    luts_per_lut6: float = 1
    multipliers_per_dsp: float = 1

    def counts(self, resources: Resources) -> Resources:
        """Modelled resources in this device's own units."""
        return dataclasses.replace(
            resources, lut=resources.lut * self.luts_per_lut6,
            dsp=resources.dsp * self.multipliers_per_dsp,
        )

    def fits(self, resources: Resources) -> bool:
        """Whether every resource count is within the device."""
        counts = self.counts(resources).rounded()
        return all(count <= getattr(self, name) for name, count in counts.items())


def load_device(name: str) -> Device:
    """Device by its name in configs/devices.yaml; raises ConfigError."""
    path = CONFIGS / "devices.yaml"
    table = load_yaml(path)
    check_keys(f"{path} (device of the hardware configuration)", {name: None}, set(table), set())
    return Device(name=name, **table[name])


def memory(width: int, depth: int, *, uram: bool = False) -> Resources:
    """One simple dual-port memory in LUTRAM, block RAM (72 x 512) or UltraRAM (72 x 4096)."""
    if depth <= LUTRAM_DEPTH:
        return Resources(lut=math.ceil(width / 7) * 8 * math.ceil(depth / 64))
    if uram and depth >= URAM_DEPTH:
        return Resources(uram=math.ceil(width / 72) * math.ceil(depth / 4096))
    return Resources(bram36=math.ceil(width / 36) / 2 * math.ceil(depth / 512))


def position_lane(c: HardwareConfig) -> Resources:
    """Table and index buffers, row extract, row generator, copy lanes, one stage of SIMD adders."""
    planes = 8 if c.rowgen else 4
    row_bits = ROW_ENTRIES * c.entry_bits
    total = memory(max(c.port_bits, 128 * c.vector_length),
                   2 * c.table_words * c.port_bits // max(c.port_bits, 128 * c.vector_length))
    total += memory(planes * c.lanes, 2 * c.index_blocks)
    total += Resources(lut=row_bits * 2, ff=row_bits * 2)
    total += Resources(lut=c.lanes * c.entry_bits * MUX16_LUTS, ff=c.lanes * c.entry_bits)
    total += Resources(lut=c.lanes * c.field_bits, ff=c.lanes * c.field_bits)
    if c.rowgen:
        products = ROW_ENTRIES * c.vector_length
        total += Resources(dsp=products / 2, lut=products * 20, ff=products * 20)
        total += Resources(lut=c.lanes * 3)
    return total


def centroid_search(c: HardwareConfig) -> Resources:
    """All distance units and the argmin tree of one position."""
    vector, distance = 16 * c.vector_length, 17
    unit = Resources(lut=3 * 17 * c.vector_length + 2 * distance,
                     ff=2 * vector + vector + distance + 8)
    if c.l2_search:
        unit += Resources(dsp=c.vector_length, ff=35)
    tree = Resources(lut=1.75 * (distance + 8), ff=distance + 8) * (c.chains - 1)
    return unit * c.act_codes_max + tree


def multiplier_array(c: HardwareConfig) -> Resources:
    """Packed multipliers, group accumulators, scalers and weight buffers."""
    if not c.simd:
        return Resources()
    columns = Resources(dsp=c.simd_depth, lut=8 * 48 + 300, ff=4 * 48 + 200) * (c.lanes // 2)
    scaler = Resources(dsp=2, lut=90, ff=120) * c.lanes
    width = c.port_columns * c.simd_depth * 8
    buffers = memory(width, 2 * c.group_max // c.simd_depth) * c.weight_ports
    return columns + scaler + buffers + Resources(ff=2 * 32 * c.lanes)


def estimate(c: HardwareConfig) -> dict[str, Resources]:
    """Resources by block."""
    word = c.word_elements
    fifo = memory(c.port_bits, c.read_fifo_words) + Resources(lut=350, ff=400)
    operands = memory(8 * word, c.operand_words)
    return {
        "position lanes": position_lane(c) * c.positions,
        "centroid search": centroid_search(c) * c.positions,
        "multiplier array": multiplier_array(c),
        "accumulator": memory(32 * c.lanes, c.accumulator_words, uram=True) * 2
        + Resources(lut=32 * c.lanes, ff=64 * c.lanes),
        "dequantizer": Resources(dsp=6, lut=200, ff=250) * word,
        "quantizer": Resources(dsp=2, lut=160, ff=120) * word + Resources(lut=400, ff=300),
        "activation unit": (memory(32, 256) + Resources(dsp=2, lut=80, ff=120))
        * c.activation_lanes,
        "vector memory": memory(16 * word, c.vector_words, uram=True),
        "operand store": operands,
        "AXI masters": fifo * (c.weight_ports + 2) + Resources(lut=300, ff=400),
        "control": Resources(lut=9000, ff=8000),
    }


def total(c: HardwareConfig) -> Resources:
    """Resources of the whole accelerator."""
    return sum(estimate(c).values(), Resources())
