"""What the circuit's counters show after an instruction of a linear layer, without running it.

Words and steps follow from the layouts and loops of docs/architecture.md and are exact; only
``cycles``, the time of the linear engine, is a model: its steps, or the words of a weight port
where those take longer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from compiler.image.access import memory_bytes, port_region
from compiler.image.records import RecordFormat
from compiler.image.weights import WeightFormat
from hw.config import HardwareConfig
from hw.isa import DrainMode, LutMode, Opcode, SimdMode
from hw.units.lookup_sequencer import PASS_CYCLES
from hw.units.simd_sequencer import TOKEN_CYCLES

Fields = Mapping[str, int]

STEPS = {SimdMode.W4A4: "simd_steps_w4a4", SimdMode.W4A8: "simd_steps_w4a8",
         SimdMode.W8A8: "simd_steps_w8a8", SimdMode.W8L4: "simd_steps_w8l4"}
START_CYCLES = 24
"""Cycles of an instruction of the linear engine beside its steps: the pipeline fills and drains."""
COMMAND_CYCLES = 3
"""Fewest cycles from one gather command to the next (`hw.units.record_fetch`)."""
MASTER_CYCLES = 5
"""Cycles of a word between memory and engine beside the memory's latency."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """External memory as each port sees it: latency, bursts ahead, bytes each cycle (or None)."""

    latency_cycles: int = 64
    outstanding: int = 16
    bytes_per_cycle: float | None = None

    def word_cycles(self, config: HardwareConfig) -> float:
        """Cycles of a port word: the read master has room for ``read_fifo_words`` on the way."""
        held = (self.latency_cycles + MASTER_CYCLES) / config.read_fifo_words
        rate = config.port_bytes / self.bytes_per_cycle if self.bytes_per_cycle else 1.0
        return max(1.0, held, rate)

    def command_cycles(self) -> float:
        """Cycles of a gather command."""
        return max(COMMAND_CYCLES, (self.latency_cycles + MASTER_CYCLES) / self.outstanding)


def simd(fields: Fields, config: HardwareConfig, timing: Timing) -> Counter[str]:
    """A SIMD over weights (not over the key-value cache)."""
    form, tokens = WeightFormat.of(fields, config), fields["tokens"]
    paired = fields["mode"] == SimdMode.W4A4
    turns = (tokens + 1) // 2 if paired else tokens
    groups, chunks = form.blocks * form.groups, form.group_rounds * config.chunks_per_word
    words = port_region(Opcode.SIMD, fields, config) // config.port_bytes
    cycles = max(groups * turns * max(chunks, TOKEN_CYCLES), words * timing.word_cycles(config))
    return Counter({
        STEPS[SimdMode(fields["mode"])]: groups * turns * chunks,
        "scaler_steps": groups * tokens, "accumulator_steps": groups * tokens,
        "operand_reads": groups * turns * form.group_rounds,
        "weight_words": words * config.lane_ports,
        **port_words([words] * config.lane_ports), "cycles": round(cycles) + START_CYCLES,
    })


def lut(fields: Fields, config: HardwareConfig, timing: Timing) -> Counter[str]:
    """A LUT of any mode."""
    form, tokens, rounds = RecordFormat.of(fields, config), fields["tokens"], fields["rounds"]
    steps = rounds * form.slices * tokens * form.blocks
    rows = rounds * form.slices * tokens * form.groups
    words = [rounds * of_port for of_port in form.port_words]
    commands, operand_reads = 0, rows
    if form.mode == LutMode.GATHER:
        records = rounds * config.positions_per_port
        fetched = tokens * form.bundle_words - form.table_words
        words = [of_port + records * fetched for of_port in words]
        commands, operand_reads = records * (tokens + 1), records * tokens
    cycles = max(rounds * form.slices * max(tokens * form.blocks, PASS_CYCLES),
                 max(words) * timing.word_cycles(config), commands * timing.command_cycles())
    if commands:
        # Nothing is read before the codes are there.
        cycles += timing.latency_cycles
    computed = rows * config.positions if form.mode == LutMode.ROWGEN else 0
    return Counter({
        "lut_steps": steps, "rowgen_rows": computed, "row_reads": rows * config.positions,
        "accumulator_steps": steps, "table_words": sum(words),
        "operand_reads": operand_reads, **port_words(words),
        "cycles": round(cycles) + START_CYCLES,
    })


def port_words(words: Sequence[int]) -> dict[str, int]:
    """Words of the weight ports."""
    return {f"read_words_w{port}": count for port, count in enumerate(words)}


def search(fields: Fields, config: HardwareConfig, timing: Timing) -> Counter[str]:
    """A SEARCH."""
    rounds, tokens = fields["rounds"], fields["tokens"]
    words = rounds * config.act_codes_max
    return Counter({"search_steps": rounds * tokens, "centroid_words": words,
                    "read_words_centroid": words, "vector_reads": rounds * tokens,
                    "operand_writes": rounds * tokens})


def quantize(fields: Fields, config: HardwareConfig, timing: Timing) -> Counter[str]:
    """A QUANTIZE: one pass for the peak, one to write."""
    steps = fields["rounds"] * fields["tokens"] * fields["heads"]
    return Counter({
        "quantize_steps": steps, "vector_reads": 2 * steps, "operand_writes": steps,
        "read_words_aux": memory_bytes(Opcode.QUANTIZE, fields, config) // config.port_bytes})


def drain(fields: Fields, config: HardwareConfig, timing: Timing) -> Counter[str]:
    """A DRAIN into vector memory or the residual."""
    steps = fields["words"] * fields["tokens"] * fields["heads"]
    residual = fields["mode"] == DrainMode.RESIDUAL
    return Counter({
        "drain_steps": steps, "vector_writes": steps * (1 + residual),
        "vector_reads": 2 * steps * residual,
        "read_words_aux": memory_bytes(Opcode.DRAIN, fields, config) // config.port_bytes})


MODELS: dict[Opcode, Callable[[Fields, HardwareConfig, Timing], Counter[str]]] = {
    Opcode.SIMD: simd, Opcode.LUT: lut, Opcode.SEARCH: search, Opcode.QUANTIZE: quantize,
    Opcode.DRAIN: drain,
}


def instruction_counters(
    opcode: Opcode, fields: Fields, config: HardwareConfig, timing: Timing
) -> Counter[str]:
    """Counters that an instruction of a linear layer adds to; raises KeyError for others."""
    return MODELS[opcode](fields, config, timing)
