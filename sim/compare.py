"""Expected writes of the accelerator, and what the checkers in the testbench say about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from hw.config import HardwareConfig
from hw.fixed import Ints
from sim.testbench import ACTIVITY, CHECKED_TAPS

ACTIVITY_LINE = "activity"
_FIELDS = ("beats", "mismatches", "first_beat", "first_cycle", "extra", "got_address",
           "expected_address", "got_data", "expected_data", "got_mask", "expected_mask")


class Beats(Protocol):
    """Writes of one engine in order, as `sim.functional` predicts them.

    address: words of the store written (``store``: byte addresses); data: uint8 [n, bytes];
    mask: uint8 [n, nibbles], 1 where a nibble is written, or None for all; instruction: index of
    the instruction of each beat.
    """

    @property
    def address(self) -> Ints: ...
    @property
    def data(self) -> Ints: ...
    @property
    def mask(self) -> Ints | None: ...
    @property
    def instruction(self) -> Ints: ...


ExpectedBeats = Mapping[str, Beats]
"""Beats by tap, names of `sim.testbench.CHECKED_TAPS`."""
OPERAND_TAPS = ("search", "quantize", "softmax")
"""Taps whose words have a byte for each element, as the operand store has."""


@dataclass(frozen=True, kw_only=True)
class TapResult:
    """What one checker counted; ``expected`` is None when the tap was not compared."""

    tap: str
    beats: int
    expected: int | None
    mismatches: int

    @property
    def exact(self) -> bool:
        """Every expected beat came, and no other."""
        return self.expected is None or (self.mismatches == 0 and self.beats == self.expected)


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """First difference of a tap.

    kind: ``value``, ``extra`` (a beat more than expected) or ``missing`` (the run ended before it).
    beat: position in the order of expected beats; instruction: its index in the program, or None
    for an extra beat. cycle: after the start; None for a missing beat. byte: the first byte that
    differs, None when only addresses or masks do. Data is hexadecimal, most significant byte
    first; addresses are words of the store that the tap writes (``store``: byte addresses).
    """

    tap: str
    kind: str
    beat: int
    instruction: int | None
    cycle: int | None
    byte: int | None
    expected_address: int | None
    got_address: int | None
    expected_data: str | None
    got_data: str | None
    expected_mask: str | None = None
    got_mask: str | None = None

    def describe(self) -> str:
        """One line."""
        where = f"{self.tap} beat {self.beat}"
        if self.instruction is not None:
            where += f" (instruction {self.instruction})"
        if self.kind == "missing":
            return (f"{where}: missing, expected address {self.expected_address} "
                    f"data {self.expected_data}")
        if self.kind == "extra":
            return (f"{where}, cycle {self.cycle}: unexpected, address {self.got_address} "
                    f"data {self.got_data}")
        place = "" if self.byte is None else f", first at byte {self.byte}"
        masks = ""
        if self.expected_mask != self.got_mask:
            masks = f", expected mask {self.expected_mask}, got {self.got_mask}"
        return (f"{where}, cycle {self.cycle}{place}: expected address {self.expected_address} "
                f"data {self.expected_data}, got address {self.got_address} "
                f"data {self.got_data}{masks}")


def expected_file(tap: str, run: int) -> str:
    """Name of a tap's file for one program of the simulation."""
    return f"expected_{tap}_{run}.bin"


def write_expected(
    expected: ExpectedBeats, run_dir: Path, config: HardwareConfig, run: int = 0
) -> None:
    """Write the files that the checkers read in one program.

    Raises ValueError for a tap that has no checker or for arrays of the wrong shape.
    """
    if unknown := set(expected) - set(CHECKED_TAPS):
        raise ValueError(f"no checker for {', '.join(sorted(unknown))}")
    for tap, beats in expected.items():
        width = config.word_elements if tap in OPERAND_TAPS else config.port_bytes
        if beats.data.shape != (len(beats.address), width):
            raise ValueError(f"{tap}: data is {beats.data.shape}, not {len(beats.address), width}")
        (run_dir / expected_file(tap, run)).write_bytes(_records(beats, tap, config).tobytes())


def _records(beats: Beats, tap: str, config: HardwareConfig) -> Ints:
    """Records of a checker, most significant byte first."""
    count, width = beats.data.shape
    address = np.asarray(beats.address, np.int64)
    if tap == "store":
        address = address // config.port_bytes
    if beats.mask is not None:
        mask = np.packbits(np.asarray(beats.mask, np.uint8), axis=1, bitorder="little")
    else:
        mask = np.full((count, width // 4), 255, np.uint8)
    return np.concatenate([
        address.astype(">u4").view(np.uint8).reshape(count, 4),
        beats.data.astype(np.uint8)[:, ::-1], mask[:, ::-1],
    ], axis=1)


def read_checks(
    path: Path, expected: ExpectedBeats, config: HardwareConfig
) -> tuple[list[TapResult], list[Mismatch]]:
    """Parse the checkers' report: results of all taps, mismatches with the earliest first."""
    results, mismatches = [], []
    for line in path.read_text().splitlines():
        tap, *words = line.split()
        if tap == ACTIVITY_LINE:
            continue
        row = dict(zip(_FIELDS, words, strict=True))
        beats = int(row["beats"], 16)
        wanted = expected.get(tap)
        count = None if wanted is None else len(wanted.address)
        results.append(TapResult(tap=tap, beats=beats, expected=count,
                                 mismatches=int(row["mismatches"], 16)))
        if wanted is None or results[-1].exact:
            continue
        mismatches.append(_mismatch(tap, row, wanted, config))
    # A missing beat has no cycle; it says less than a wrong one.
    mismatches.sort(key=lambda item: (item.cycle is None, item.cycle or 0))
    return results, mismatches


def read_activity(path: Path) -> dict[str, int]:
    """Cycles that the testbench counted, by name."""
    for line in path.read_text().splitlines():
        tap, *words = line.split()
        if tap == ACTIVITY_LINE:
            return dict(zip(ACTIVITY, map(int, words), strict=True))
    raise ValueError(f"{path} has no line {ACTIVITY_LINE}")


def _mismatch(
    tap: str, row: Mapping[str, str], wanted: Beats, config: HardwareConfig
) -> Mismatch:
    scale = config.port_bytes if tap == "store" else 1
    if int(row["mismatches"], 16) == 0:
        beat = int(row["beats"], 16)
        return Mismatch(
            tap=tap, kind="missing", beat=beat, instruction=int(wanted.instruction[beat]),
            cycle=None, byte=None, expected_address=int(wanted.address[beat]), got_address=None,
            expected_data=wanted.data[beat].astype(np.uint8)[::-1].tobytes().hex(), got_data=None,
        )
    beat, cycle = int(row["first_beat"], 16), int(row["first_cycle"], 16)
    got_address = int(row["got_address"], 16) * scale
    if int(row["extra"], 16):
        return Mismatch(
            tap=tap, kind="extra", beat=beat, instruction=None, cycle=cycle, byte=None,
            expected_address=None, got_address=got_address, expected_data=None,
            got_data=row["got_data"],
        )
    return Mismatch(
        tap=tap, kind="value", beat=beat, instruction=int(wanted.instruction[beat]), cycle=cycle,
        byte=_first_byte(row), expected_address=int(row["expected_address"], 16) * scale,
        got_address=got_address, expected_data=row["expected_data"], got_data=row["got_data"],
        expected_mask=row["expected_mask"], got_mask=row["got_mask"],
    )


def _first_byte(row: Mapping[str, str]) -> int | None:
    """Lowest byte with a compared nibble that differs (hexadecimal digits are nibbles)."""
    expected, got = row["expected_data"][::-1], row["got_data"][::-1]
    digits = row["expected_mask"][::-1]
    for nibble, (left, right) in enumerate(zip(expected, got, strict=True)):
        compared = int(digits[nibble // 4], 16) >> nibble % 4 & 1
        if compared and left != right:
            return nibble // 2
    return None
