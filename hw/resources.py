"""Resource estimate from the configuration: a model, to be read with its uncertainty.

Each unit has a formula in the configuration's sizes. Memories follow the vendors' primitives (AMD
UG574 for memories in look-up tables, UG573 and UG1099 for blocks). Logic, registers and multipliers
were fitted to Yosys on single units of ``tiny`` and ``sim`` (`hw.synthesis`, UltraScale+), to which
a test holds them. A vendor's tool finds other, often fewer, LUTs.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from hw.config import ROW_ENTRIES, HardwareConfig
from hw.golden.hadamard import LENGTH_BITS_MAX
from hw.golden.importance import ORDER_ENTRIES
from hw.presets import CONFIGS, check_keys, load_yaml
from hw.register_map import counters
from hw.units.row_limits import norm_words_max, rope_words_max

MUX16_LUTS = 5
"""LUT6 of a one-bit 16:1 multiplexer without wide-function multiplexers (Versal); 4 with them."""
LUTRAM_DEPTH = 64
"""Memories up to this depth are built from LUTs."""
URAM_DEPTH = 2048
"""Memories at least this deep and 72 bits wide go to UltraRAM where the device has it."""
BRAM_SHAPES = ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384))
"""Bits and depth of half a block RAM (18 Kb)."""
SIMD_WORD_BITS = 48
"""Adder of the lookup engine that the sums of 2 or 4 columns share."""


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
    """One simple dual-port memory in LUTs, block RAM or UltraRAM (72 x 4096).

    LUTs hold 14 x 32 or 7 x 64 bits in 8 and need a register behind their read.
    """
    if depth <= LUTRAM_DEPTH:
        return Resources(lut=8 * math.ceil(width / (14 if depth <= 32 else 7)), ff=width)
    if uram and depth >= URAM_DEPTH:
        return Resources(uram=math.ceil(width / 72) * math.ceil(depth / 4096))
    halves = min(math.ceil(width / wide) * math.ceil(depth / deep) for wide, deep in BRAM_SHAPES)
    return Resources(bram36=halves / 2)


def nibble_memory(nibbles: int, depth: int) -> Resources:
    """A memory whose nibbles are written singly; a block RAM has an enable for 9 bits."""
    halves = min(math.ceil(nibbles / max(1, wide // 9)) * math.ceil(depth / deep)
                 for wide, deep in BRAM_SHAPES if wide >= 4)
    return Resources(bram36=halves / 2)


def position_lane(c: HardwareConfig) -> Resources:
    """Table and index buffers, row extract, row generator, copy lanes, one stage of SIMD adders."""
    table_bits = max(c.port_bits, 8 * ROW_ENTRIES * (c.vector_length if c.rowgen else 1))
    row_bits = ROW_ENTRIES * c.entry_bits
    planes = 2 if c.rowgen else 1
    total = memory(table_bits, 2 * c.table_words * c.port_bits // table_bits)
    total += memory(4 * c.lanes, 2 * c.index_blocks) * planes
    total += Resources(lut=c.entry_bits * MUX16_LUTS + c.field_bits + (3 if c.rowgen else 0),
                       ff=c.entry_bits + SIMD_WORD_BITS // (2 if c.rowgen else 4) + 4 * planes,
                       ) * c.lanes
    total += Resources(lut=row_bits, ff=row_bits + 24 + 8 * c.word_elements, dsp=1)
    if c.rowgen:
        products = ROW_ENTRIES * c.vector_length
        total += Resources(dsp=products / 2, lut=14 * products, ff=32 * products)
    return total


def lookup_control(c: HardwareConfig) -> Resources:
    """Loops of the lookup engine, and a record loader for each weight port."""
    return (Resources(lut=150, ff=c.port_bits + 140) * c.weight_ports
            + Resources(lut=300, ff=345, dsp=3))


def position_lists(c: HardwareConfig) -> Resources:
    """Lists of kept positions, two memories for each position lane."""
    place = (c.list_rounds * c.positions_per_port - 1).bit_length()
    banks = memory(8 * c.vector_length, c.list_rounds) + memory(place, c.list_rounds)
    return (banks + Resources(lut=48, ff=30)) * c.positions


def sparse_fetch(c: HardwareConfig) -> Resources:
    """Loops over the lists, an address for each weight port."""
    return Resources(lut=30, ff=50, dsp=1) * c.weight_ports + Resources(lut=27, ff=36)


def centroid_search(c: HardwareConfig) -> Resources:
    """All distance units and the argmin tree of one position."""
    vector, distance = 16 * c.vector_length, 32 + c.vector_length // 2 if c.l2_search else 17
    unit = Resources(lut=51 * c.vector_length + 2 * distance + 7,
                     ff=3 * vector + 2 * distance + 9,
                     dsp=c.vector_length if c.l2_search else 0)
    tree = Resources(lut=1.75 * (distance + 8), ff=distance + 8) * (c.chains - 1)
    return unit * c.act_codes_max + tree


def search_control(c: HardwareConfig) -> Resources:
    """Reader of vectors, loader of centroids, the shadows' selection."""
    return Resources(lut=c.act_codes_max * c.positions + 0.8 * c.port_bits + 150,
                     ff=4 * c.port_bits + 80)


def multiplier_array(c: HardwareConfig) -> Resources:
    """Packed multipliers with their accumulators, group scalers and weight buffers.

    One more pair of columns sums the activations. Log2 products are summed twice.
    """
    depth = c.simd_depth
    columns = Resources(lut=320 + 149 * depth, ff=330 + 84 * depth, dsp=depth)
    scaler = Resources(lut=310, ff=212, dsp=2)
    if not c.log2_softmax:
        columns = Resources(lut=320 + 86 * depth, ff=330 + 76 * depth, dsp=depth)
        scaler = Resources(lut=200, ff=188, dsp=2)
    chunk_words = c.port_columns * depth * 8 // c.port_bits
    scale_words = c.port_columns * 16 // c.port_bits
    buffers = memory(c.port_bits, 2 * c.group_max // depth) * chunk_words
    buffers += memory(c.port_bits, 8) * (2 * scale_words)
    control = Resources(lut=100, ff=72) * c.weight_ports + Resources(lut=250, ff=180, dsp=1)
    return columns * (c.lanes // 2 + 1) + scaler * c.lanes + buffers * c.weight_ports + control


def weight_prefetch(c: HardwareConfig) -> Resources:
    """Region of an instruction by products; a command register and a count for each port."""
    return Resources(lut=74, ff=54) * c.weight_ports + Resources(lut=80, ff=100, dsp=4)


def accumulator(c: HardwareConfig) -> Resources:
    """Two banks in memories of four lanes, an adder for each lane."""
    bank = memory(4 * 32, c.accumulator_words, uram=True) * (c.lanes // 4)
    return bank * 2 + Resources(lut=107, ff=32) * c.lanes


def drain_engine(c: HardwareConfig) -> Resources:
    """Dequantizer, residual adder, argmax; a vector word is chosen from one of the accumulator."""
    slots = c.lanes / c.word_elements
    return Resources(lut=916 + 10 * slots, ff=757, dsp=6) * c.word_elements + Resources(ff=430)


def quantize_engine(c: HardwareConfig) -> Resources:
    """Peak of a row, a divider, a multiplication for each element; channel factors."""
    factors = memory(3 * c.chunks_per_word, min(c.operand_words, 4096))
    return factors + Resources(lut=127, ff=135, dsp=1) * c.word_elements + Resources(
        lut=470, ff=325, dsp=1)


def activate_engine(c: HardwareConfig) -> Resources:
    """Interpolation with a table for each lane, words on their way."""
    lane = memory(32, 256) + Resources(lut=157, ff=139, dsp=2)
    return lane * c.activation_lanes + Resources(lut=83, ff=104) * c.word_elements + Resources(
        lut=60, ff=40)


def norm_engine(c: HardwareConfig) -> Resources:
    """Lanes with two roundings and three multipliers, sums over them, root, parameters."""
    parameters = memory(c.port_bits, norm_words_max(c)) * 2
    return parameters + Resources(lut=560, ff=359, dsp=3) * c.word_elements + Resources(
        lut=860, ff=830, dsp=4)


def rope_engine(c: HardwareConfig) -> Resources:
    """Two products for each element, the rotations of a token."""
    rotations = memory(c.port_bits, rope_words_max(c))
    return rotations + Resources(lut=81, ff=167, dsp=2) * c.word_elements + Resources(
        lut=260, ff=150, dsp=1)


def hadamard_engine(c: HardwareConfig) -> Resources:
    """A sum and a difference of every element in each stage; words that wait between stages."""
    elements, within = c.word_elements, c.word_elements.bit_length() - 1
    total = Resources(lut=300, ff=150) + Resources(lut=23, ff=83) * elements
    for bit in range(LENGTH_BITS_MAX):
        width = elements * (16 + LENGTH_BITS_MAX - bit)
        total += Resources(lut=2.55 * width, ff=width)
        if bit > within:
            total += memory(width, 1 << (bit - within))
        elif bit == within:
            total += Resources(ff=width)
    return total


def softmax_engine(c: HardwareConfig) -> Resources:
    """Scores with their penalties, maximum, exponential in LUTs, sum, reciprocal."""
    lane = Resources(lut=327 if c.log2_softmax else 290, ff=259 if c.log2_softmax else 245, dsp=0.5)
    return lane * c.word_elements + Resources(lut=255, ff=405, dsp=2)


def order_engine(c: HardwareConfig) -> Resources:
    """Comparators and ranks of eight tokens."""
    return Resources(lut=358, ff=309)


def token_order(c: HardwareConfig) -> Resources:
    """Ranking, importance of softmax rows, two lookups of ordered rows, their memories."""
    memories = memory(24, ORDER_ENTRIES) + memory(8, ORDER_ENTRIES) * 2 + Resources(lut=30, ff=34)
    lookups = Resources(lut=35, ff=62, dsp=1) * 2
    return order_engine(c) + memories + lookups + Resources(lut=60, ff=140, dsp=1)


def gather_engine(c: HardwareConfig) -> Resources:
    """A word of the table and a pair of the residual, shifted and added in some lanes."""
    return (Resources(lut=48, ff=48) * c.word_elements
            + Resources(lut=141, ff=32) * c.activation_lanes + Resources(lut=270, ff=202, dsp=1))


def append_engine(c: HardwareConfig) -> Resources:
    """A word on its way, rounded and moved to its bytes."""
    return Resources(lut=29, ff=27) * c.word_elements + Resources(lut=250, ff=240, dsp=1)


def shared_memories(c: HardwareConfig) -> dict[str, Resources]:
    """Vector memory and operand store with their arbiters; more engines use them with simd."""
    word, writers = c.word_elements, (6 if c.simd else 3) + c.rotates
    alphas, scales = memory(3 * c.chunks_per_word, 4096), memory(24, 256)
    return {
        "vector memory": memory(c.port_bits, c.vector_words, uram=True)
        + Resources(lut=(c.port_bits / 2 + 20) * writers, ff=writers + 10),
        "operand store": nibble_memory(2 * word, c.operand_words) + alphas + scales
        + Resources(lut=11 * word + 44, ff=4),
    }


def axi_masters(c: HardwareConfig) -> Resources:
    """Read masters with their queues, the write master, and the sharing of the aux port."""
    read = memory(c.port_bits, c.read_fifo_words) + Resources(lut=115, ff=132)
    write = Resources(lut=150, ff=9 * c.port_bytes + 147)
    clients = 8 if c.simd else 5
    return read * (c.weight_ports + 2) + write + Resources(lut=57 * clients, ff=137)


def control(c: HardwareConfig) -> dict[str, Resources]:
    """Fetch, queues and tokens of nine engines, registers; load and store."""
    return {
        "instruction fetch": Resources(lut=655, ff=723),
        "dispatcher": Resources(lut=3230, ff=3430),
        "registers": Resources(lut=36, ff=65) * len(counters(c)) + Resources(ff=215),
        "load and store": Resources(lut=90 + c.port_bits, ff=70 + c.port_bits),
    }


def estimate(c: HardwareConfig) -> dict[str, Resources]:
    """Resources by unit; what attention needs besides is there with ``simd`` only."""
    units = {
        "position lanes": position_lane(c) * c.positions,
        "lookup control": lookup_control(c),
        "centroid search": centroid_search(c) * c.positions + search_control(c),
        **({"position lists": position_lists(c) + sparse_fetch(c)} if c.skips_positions else {}),
        "weight prefetch": weight_prefetch(c),
        "accumulator": accumulator(c),
        "drain": drain_engine(c),
        "quantize": quantize_engine(c),
        "activate": activate_engine(c),
        "AXI masters": axi_masters(c),
    }
    if c.simd:
        units |= {
            "multiplier array": multiplier_array(c),
            "norm": norm_engine(c),
            "rope": rope_engine(c),
            **({"hadamard": hadamard_engine(c)} if c.rotates else {}),
            "softmax": softmax_engine(c),
            **({"token order": token_order(c)} if c.orders_tokens else {}),
            "gather": gather_engine(c),
            "append": append_engine(c),
        }
    return units | shared_memories(c) | control(c)


def total(c: HardwareConfig) -> Resources:
    """Resources of the whole accelerator."""
    return sum(estimate(c).values(), Resources())
