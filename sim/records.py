"""What goes into a simulation and what comes out, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from hw.config import HardwareConfig
from hw.errors import ConfigError
from hw.fixed import Ints
from sim.compare import ExpectedBeats, Mismatch, TapResult

OUTSTANDING_MAX = 64
LATENCY_MIN = 2


@dataclass(frozen=True, kw_only=True)
class MemoryModel:
    """External memory as each port sees it; all ports have their own channel.

    latency_cycles: from an accepted address to its first word, and from the last written word to
    the response; at least 2. bytes_per_cycle: limit of one port, None for a word every cycle.
    outstanding: bursts that a port accepts ahead, 1..64. row_bytes, row_miss_cycles: a read burst
    that neither follows the one before it nor lies in its row (a power of two of bytes) begins so
    many cycles behind it. refresh_interval_cycles, refresh_cycles: no port moves a word in the
    first cycles of every interval; 0 is never.
    """

    latency_cycles: int = 64
    bytes_per_cycle: float | None = None
    outstanding: int = 16
    row_bytes: int = 1024
    row_miss_cycles: int = 0
    refresh_interval_cycles: int = 0
    refresh_cycles: int = 0

    def __post_init__(self) -> None:
        if self.latency_cycles < LATENCY_MIN:
            raise ConfigError(f"memory latency must be at least {LATENCY_MIN} cycles, "
                              f"not {self.latency_cycles}")
        if self.bytes_per_cycle is not None and self.bytes_per_cycle <= 0:
            raise ConfigError("memory bytes per cycle must be positive, "
                              f"not {self.bytes_per_cycle}")
        if not 1 <= self.outstanding <= OUTSTANDING_MAX:
            raise ConfigError(f"outstanding bursts must be 1..{OUTSTANDING_MAX}, "
                              f"not {self.outstanding}")
        if self.row_bytes < 1 or self.row_bytes & (self.row_bytes - 1):
            raise ConfigError(f"memory rows must be a power of two of bytes, not {self.row_bytes}")
        for name in ("row_miss_cycles", "refresh_interval_cycles", "refresh_cycles"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, not {getattr(self, name)}")
        if self.refresh_cycles and self.refresh_cycles >= self.refresh_interval_cycles:
            raise ConfigError(f"refresh_cycles must be less than refresh_interval_cycles "
                              f"({self.refresh_interval_cycles}), not {self.refresh_cycles}")

    def word_rate(self, config: HardwareConfig) -> Fraction:
        """Port words that a port moves each cycle at most."""
        if self.bytes_per_cycle is None:
            return Fraction(1)
        share = Fraction(self.bytes_per_cycle) / config.port_bytes
        return min(Fraction(1), share.limit_denominator(1024)) or Fraction(1, 1024)

    def row_shift(self, config: HardwareConfig) -> int:
        """Logarithm of the port words of a row."""
        return max(0, (self.row_bytes // config.port_bytes).bit_length() - 1)

    def plusargs(self, config: HardwareConfig, words: int) -> list[str]:
        """Arguments for the testbench's memory of ``words`` port words."""
        rate = self.word_rate(config)
        return [
            f"+words={words}", f"+latency={self.latency_cycles}",
            f"+outstanding={self.outstanding}", f"+rate_words={rate.numerator}",
            f"+rate_cycles={rate.denominator}", f"+row_shift={self.row_shift(config)}",
            f"+row_miss={self.row_miss_cycles}",
            f"+refresh_interval={self.refresh_interval_cycles}",
            f"+refresh={self.refresh_cycles}",
        ]


@dataclass(frozen=True, kw_only=True)
class Patch:
    """Words that the memory holds before a program starts, instead of what is there.

    words: indices of port words [n]; data: uint8 [n, port_bytes].
    """

    words: Ints
    data: Ints


@dataclass(frozen=True, kw_only=True)
class Job:
    """One program of a simulation.

    program_address: byte address of its first instruction. expected: beats by tap; taps left out
    are counted but not compared. output: byte address and size (whole port words) of memory to
    return. patch: what the memory must hold before, None for what the program before left there.
    """

    program_address: int
    expected: ExpectedBeats
    output: tuple[int, int] | None = None
    patch: Patch | None = None


@dataclass(frozen=True, kw_only=True)
class SimulationResult:
    """One run of the circuit.

    status: done, error, hang or max_cycles (stopped by the limit). errors: causes of an error
    (names of `hw.register_map.ERROR_BITS`, and ``memory`` for an access that the memory refused).
    cycles: from start to end of the program, as the accelerator counted them. counters: all
    counters by name. bit_exact: the program ended without error and every beat of every compared
    tap was as expected. wall_s: the run loop alone, without building and loading. activity: cycles
    by name of `sim.testbench.ACTIVITY`. events: file of the event log.
    output: bytes of the requested memory region.
    """

    simulator: str
    simulator_version: str
    status: str
    errors: tuple[str, ...]
    cycles: int
    counters: Mapping[str, int]
    activity: Mapping[str, int]
    bit_exact: bool
    taps: tuple[TapResult, ...]
    mismatches: tuple[Mismatch, ...]
    busy_engines: tuple[str, ...]
    waiting_engines: tuple[str, ...]
    wall_s: float
    build_s: float
    run_dir: Path
    events: Path
    waves: Path | None
    output: bytes | None

    @property
    def first_mismatch(self) -> Mismatch | None:
        """The earliest difference, None when there is none."""
        return self.mismatches[0] if self.mismatches else None

    @property
    def done(self) -> bool:
        """The program ended without error."""
        return self.status == "done"

    @property
    def error(self) -> bool:
        """The accelerator reported an error."""
        return self.status == "error"

    @property
    def hang(self) -> bool:
        """The watchdog ended the run."""
        return self.status == "hang"

    @property
    def cycles_per_s(self) -> float:
        """Simulated cycles for each second of the run loop."""
        return self.cycles / self.wall_s if self.wall_s else 0.0
