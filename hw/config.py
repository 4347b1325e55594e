"""Hardware parameters: everything a generated circuit depends on, and nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass

from hw.errors import ConfigError

SUM_BITS_MIN, SUM_BITS_MAX = 20, 32
"""Bits of an accumulator's sum."""

NARROW_INDEX_BITS, INDEX_BITS, WIDE_INDEX_BITS = 3, 4, 8
"""Bits of an index within a row of 8 or of 16 entries, and of one that names a slice as well."""
EXACT_ROW_BITS = 16
"""Bits of a computed row's entry that hold every dot product the compiler allows."""

ALPHA_MAX = 4
"""Largest power-of-two channel factor (exponent) of an activation chunk."""

GROUP_MAX = 256
"""Dot products of longer groups of int8 operands and factors leave a multiplier's 27 bits."""

CLOCK_MAX = 10000
"""More megahertz than any circuit reaches."""

KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,), "bool": (bool,), "int": (int,), "float": (int, float),
}


def bits_for(values: int) -> int:
    """Bits that count ``values`` different things, at least one."""
    return max(1, (values - 1).bit_length())


def index_width(entries: int) -> int:
    """Bits that an index into so many entries takes in memory at least."""
    return max(NARROW_INDEX_BITS, bits_for(entries))


@dataclass(frozen=True, kw_only=True)
class HardwareConfig:
    """One accelerator.

    name: what reports call it.
    device: row of the device table that resources are compared with.
    clock_mhz: assumed clock.
    port_bits: width of every AXI4 data bus; one word of it holds one round of activations.
    weight_ports: AXI4 read masters for tables, indices, codebooks and weights: a divisor of the
        position lanes, or half as many again, which pairs of lanes share (`shared_ports`).
    vector_length: v, consecutive inputs that share one codebook.
    lanes: output columns computed each cycle.
    chains, chain_length: distance units of one centroid search; their product bounds c_a.
    l2_search: the search can also use squared Euclidean distance.
    rowgen: rows can be computed from weight codebooks and int8 activations.
    row_bits: bits of a computed row's entry; below 16 dot products are shifted, rounded and
        saturated (`hw.golden.lookup.rows`), and copies and adders are narrower.
    index_bits: bits of an index: 3 for codebooks of 8, 4 for codebooks of 16, 8 for computed rows
        of up to 256.
    sparse: computed rows of a single token skip positions whose activations are all 0.
    simd: packed multipliers are present.
    simd_depth: inputs the multiplier array takes each cycle.
    key_bits, value_bits: bits of keys and of values in the key-value cache: 8 or 4.
    log2_softmax: the array can also multiply by 4-bit powers of two (shifts).
    hadamard: with the multiplier array, blocks of rows can be rotated by Hadamard matrices.
    token_order: with the multiplier array, rows can be taken in the order of their tokens'
        importance (Agile-Quant).
    group_max: longest weight group (inputs that share a scale) of the multiplier array.
    tokens_max: tokens of one instruction.
    accumulator_words: words of ``lanes`` sums in each of the two accumulator banks.
    sum_bits: signed bits of a sum, less its zero; the compiler proves that sums fit.
    vector_words: words of the vector memory (int16 activations).
    operand_words: words of the operand store (centroid codes or int8/int4 activations).
    table_words: words in each half of a position lane's table buffer.
    index_blocks: column blocks in each half of a position lane's index buffer.
    activation_lanes: elements that the activation unit computes each cycle.
    read_fifo_words: words that a read master may have in flight.
    """

    name: str
    device: str
    clock_mhz: float
    port_bits: int
    weight_ports: int
    vector_length: int
    lanes: int
    chains: int
    chain_length: int
    l2_search: bool
    rowgen: bool
    row_bits: int
    index_bits: int
    sparse: bool
    simd: bool
    simd_depth: int
    key_bits: int
    value_bits: int
    log2_softmax: bool
    hadamard: bool
    token_order: bool
    group_max: int
    tokens_max: int
    accumulator_words: int
    sum_bits: int
    vector_words: int
    operand_words: int
    table_words: int
    index_blocks: int
    activation_lanes: int
    read_fifo_words: int

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            kinds = KINDS[str(field.type)]
            if not isinstance(value, kinds) or (field.type == "int" and isinstance(value, bool)):
                raise ConfigError(f"{field.name} must be {field.type}, not {value!r}")
            if isinstance(value, int | float) and not isinstance(value, bool):
                if not math.isfinite(value):
                    raise ConfigError(f"{field.name} must be finite, not {value}")
                if value <= 0:
                    raise ConfigError(f"{field.name} must be positive, not {value}")
        for name in ("port_bits", "vector_length", "lanes", "chains", "simd_depth", "group_max",
                     "activation_lanes", "read_fifo_words", "table_words", "operand_words"):
            value = getattr(self, name)
            if value & (value - 1):
                raise ConfigError(f"{name} must be a power of two, not {value}")
        self._require(self.clock_mhz <= CLOCK_MAX, "clock_mhz", f"at most {CLOCK_MAX}")
        self._require(64 <= self.port_bits <= 512, "port_bits", "64, 128, 256 or 512")
        self._require(self.vector_length <= 4, "vector_length", "1, 2 or 4")
        self._require(8 <= self.row_bits <= EXACT_ROW_BITS, "row_bits",
                      f"8 to {EXACT_ROW_BITS}")
        self._require(self.act_codes_max <= 256, "chains x chain_length", "at most 256")
        self._require(self.positions >= 1 and (self.positions % self.weight_ports == 0
                                               or self.shared_ports > 0), "weight_ports",
                      f"a divisor of the {self.positions} positions of a port word, or "
                      f"{self.positions * 3 // 2}")
        if self.shared_ports:
            self._require(self.rowgen and not self.sparse and self.index_bits != WIDE_INDEX_BITS,
                          "weight_ports", f"at most {self.positions} unless rows are computed "
                          "(rowgen), none is skipped (sparse) and indices have one plane "
                          "(index_bits)")
            self._require(self.lanes * self.index_bits >= 3 * self.port_bits, "lanes",
                          f"at least {3 * self.port_bits // self.index_bits} (three words of "
                          f"indices a block) with {self.weight_ports} weight_ports")
        self._require(self.lanes % self.word_indices == 0, "lanes",
                      f"a multiple of {self.word_indices} ({self.index_low_bits}-bit indices of "
                      "whole port words)")
        self._require(self.word_elements % self.activation_lanes == 0, "activation_lanes",
                      f"a divisor of the {self.word_elements} elements of a port word")
        self._require(self.word_elements % self.simd_depth == 0, "simd_depth",
                      f"a divisor of the {self.word_elements} elements of a port word")
        if self.simd:
            self._require(2 <= self.simd_depth <= 8, "simd_depth", "2, 4 or 8 (exact lane packing)")
            self._require(self.group_max % self.word_elements == 0, "group_max",
                          f"a multiple of the {self.word_elements} elements of a port word")
            self._require(self.group_max <= GROUP_MAX, "group_max", f"at most {GROUP_MAX} (one "
                          "multiplier takes a group's dot product)")
            self._require(self.value_bits * self.simd_depth >= 16, "value_bits",
                          f"8 with a simd_depth of {self.simd_depth}")
            columns = self.port_columns
            self._require(columns * 16 % self.port_bits == 0
                          and columns * self.simd_depth * 4 % self.port_bits == 0, "lanes",
                          "large enough that every weight port fills whole words of int4 weights "
                          "and of 16-bit scales")
        for name in ("key_bits", "value_bits"):
            self._require(getattr(self, name) in (4, 8), name, "4 or 8")
        self._require(self.simd or not self.log2_softmax, "log2_softmax",
                      "false without the multiplier array (simd)")
        self._require(self.index_bits in (NARROW_INDEX_BITS, INDEX_BITS, WIDE_INDEX_BITS),
                      "index_bits", f"{NARROW_INDEX_BITS}, {INDEX_BITS} or {WIDE_INDEX_BITS}")
        self._require(self.tokens_max <= 255, "tokens_max", "at most 255")
        self._require(self.accumulator_words <= 4096, "accumulator_words", "at most 4096")
        self._require(SUM_BITS_MIN <= self.sum_bits <= SUM_BITS_MAX, "sum_bits",
                      f"{SUM_BITS_MIN} to {SUM_BITS_MAX}")
        self._require(self.index_blocks <= 255, "index_blocks", "at most 255")
        self._require(self.vector_words <= 65536, "vector_words", "at most 65536")
        self._require(self.operand_words <= 65536, "operand_words", "at most 65536")

    def _require(self, holds: bool, name: str, rule: str) -> None:
        if not holds:
            value = getattr(self, name, self.act_codes_max)
            raise ConfigError(f"{name} must be {rule}, not {value}")

    @property
    def port_bytes(self) -> int:
        """Bytes of a port word."""
        return self.port_bits // 8

    @property
    def word_elements(self) -> int:
        """Elements (int16 activations) of a vector memory word: inputs of one round."""
        return self.port_bits // 16

    @property
    def positions(self) -> int:
        """Codebook positions of one round: position lanes of the lookup engine."""
        return self.word_elements // self.vector_length

    @property
    def shared_ports(self) -> int:
        """Weight ports that two position lanes share; the multiplier array does without them."""
        return self.positions // 2 if 2 * self.weight_ports == 3 * self.positions else 0

    @property
    def lane_ports(self) -> int:
        """Weight ports that feed position lanes, or columns of the array, of their own."""
        return self.weight_ports - self.shared_ports

    @property
    def positions_per_port(self) -> int:
        """Position lanes that each port of `lane_ports` feeds."""
        return self.positions // self.lane_ports

    @property
    def index_low_bits(self) -> int:
        """Bits of an index that choose within a row."""
        return min(self.index_bits, INDEX_BITS)

    @property
    def word_indices(self) -> int:
        """Fewest indices, of their low bits, that fill whole port words."""
        return self.port_bits // math.gcd(self.port_bits, self.index_low_bits)

    @property
    def row_entries(self) -> int:
        """Entries of a row that the copy multiplexers choose from."""
        return 1 << self.index_low_bits

    @property
    def wide_indices(self) -> bool:
        """Whether codebooks can have more than 16 entries, of which a row holds a slice."""
        return self.rowgen and self.index_bits == WIDE_INDEX_BITS

    @property
    def skips_positions(self) -> bool:
        """Whether positions without activations can be listed and skipped."""
        return self.rowgen and self.sparse

    @property
    def list_rounds(self) -> int:
        """Rounds of one input whose positions can be listed."""
        return min(self.operand_words, 4096) // 4

    @property
    def act_codes_max(self) -> int:
        """Most activation centroids of a codebook."""
        return self.chains * self.chain_length

    @property
    def rounds_rows(self) -> bool:
        """Whether entries of computed rows are narrower than the dot products."""
        return self.rowgen and self.row_bits < EXACT_ROW_BITS

    @property
    def row_shift_max(self) -> int:
        """Largest shift of computed entries; none of them saturates there, but by rounding up."""
        return EXACT_ROW_BITS - self.row_bits

    @property
    def entry_bits(self) -> int:
        """Unsigned bits of a row entry in the copy lanes."""
        return self.row_bits if self.rowgen else 8

    @property
    def sum_max(self) -> int:
        """Largest magnitude of a sum, less its zero."""
        return (1 << (self.sum_bits - 1)) - 1

    @property
    def field_bits(self) -> int:
        """Width of a lane in the cascaded SIMD adders: no sum of all positions can carry out."""
        return self.entry_bits + bits_for(self.positions)

    @property
    def adder_columns(self) -> int:
        """Columns that share an adder of 48 bits: 4, or 2 where their sums need more bits."""
        return 2 if self.rowgen and self.field_bits > 12 else 4

    @property
    def chunks_per_word(self) -> int:
        """Multiplier array steps (and channel factors) of one round."""
        return self.word_elements // self.simd_depth

    @property
    def key_columns(self) -> int:
        """Columns of the array whose keys share a port word of the key-value cache."""
        return self.port_bits // (self.key_bits * self.simd_depth)

    @property
    def value_columns(self) -> int:
        """Columns of the array whose values share a port word of the key-value cache."""
        return self.port_bits // (self.value_bits * self.simd_depth)

    @property
    def port_columns(self) -> int:
        """Output columns whose weights one port of `lane_ports` delivers to the array."""
        return self.lanes // self.lane_ports

    @property
    def rotates(self) -> bool:
        """Whether the Hadamard engine is there."""
        return self.simd and self.hadamard

    @property
    def orders_tokens(self) -> bool:
        """Whether importance and order of tokens are there."""
        return self.simd and self.token_order

    @property
    def codebook_bytes(self) -> int:
        """Bytes of one row's slice of an int8 weight codebook."""
        return self.row_entries * self.vector_length

    def digest(self) -> str:
        """Hash of everything the circuit depends on (not its name)."""
        values = dataclasses.asdict(self)
        del values["name"], values["device"], values["clock_mhz"]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
