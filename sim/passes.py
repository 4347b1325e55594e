"""Passes of a decoder build: what build.json says of them, and the file of finished ones."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw.errors import LutripError
from sim.records import MemoryModel

PREFILL, DECODE = "prefill", "decode"
KINDS = (PREFILL, DECODE)


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One program of a decoder build.

    first, tokens: the positions that it computes. layer: the only layer that it runs, None for a
    pass through all or for what belongs to no layer. token_slot: byte address of the line whose
    first 4 bytes hold the next token afterwards, or None. instructions: operation of every stored
    instruction.
    """

    index: int
    name: str
    first: int
    tokens: int
    layer: int | None
    program_address: int
    token_slot: int | None
    instructions: Sequence[str]

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        return PREFILL if self.name.startswith(PREFILL) else DECODE

    @property
    def part(self) -> str:
        """What of the model it runs: all, layer, or the name of another part."""
        last = self.name.split()[-1]
        return "layer" if self.layer is not None else last if last.isalpha() else "all"


def read_passes(metadata: Mapping[str, Any], where: Path) -> list[Pass]:
    """Passes of build.json; raises LutripError in one line."""
    fields = [field.name for field in dataclasses.fields(Pass) if field.name != "index"]
    try:
        return [Pass(index=index, **{name: item[name] for name in fields})
                for index, item in enumerate(metadata["passes"])]
    except (KeyError, TypeError) as error:
        raise LutripError(f"{where}: a pass lacks {error}; compile it again") from None


def choose(
    passes: Sequence[Pass], sample_layers: Sequence[int] | None, layers: int
) -> list[Pass]:
    """Passes that run in RTL: all, or those of some layers.

    Raises LutripError when the build has no passes of single layers or no such layer.
    """
    if sample_layers is None:
        return list(passes)
    if all(item.layer is None for item in passes):
        raise LutripError("--sample-layers needs a build with one program for each layer; "
                          "compile it with --split-layers")
    if wrong := sorted(set(sample_layers) - set(range(layers))):
        raise LutripError(f"--sample-layers {wrong[0]}: the model has layers 0 to {layers - 1}")
    return [item for item in passes if item.layer in sample_layers]


@dataclass(frozen=True, kw_only=True)
class PassRecord:
    """What is known of a pass that ran in RTL; fields as in `sim.records.SimulationResult`.

    token: the token that it produced, as the simulated memory held it, or None. first_mismatch:
    as `sim.locate.locate` says it. instructions: as they ran, loops unrolled.
    """

    index: int
    name: str
    status: str
    errors: Sequence[str]
    bit_exact: bool
    cycles: int
    counters: Mapping[str, int]
    activity: Mapping[str, int]
    beats: Mapping[str, int]
    instructions: int
    wall_s: float
    token: int | None
    simulator: str
    first_mismatch: Mapping[str, Any] | None


def run_key(image: str, circuit: str, simulator: str, memory: MemoryModel) -> str:
    """Names what a run depends on; finished passes of another key are not used.

    image, circuit: hashes of both.
    """
    return json.dumps([image, circuit, simulator, dataclasses.asdict(memory)])


class PassFile:
    """Finished passes, one JSON line each behind a line with the key.

    A pass is written when it ends, so that a killed run loses only the one that ran.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key

    def load(self) -> dict[int, PassRecord]:
        """Bit-exact passes of the same key by index; a damaged last line does not count."""
        try:
            lines = self.path.read_text().splitlines()
        except OSError:
            return {}
        if not lines or lines[0] != self.key:
            return {}
        records = {}
        for line in lines[1:]:
            try:
                record = PassRecord(**json.loads(line))
            except (TypeError, ValueError):
                break
            if record.bit_exact:
                records[record.index] = record
        return records

    def restart(self, records: Iterable[PassRecord]) -> None:
        """Begin the file anew with some records."""
        lines = [self.key, *(self._line(record) for record in records)]
        self.path.write_text("".join(f"{line}\n" for line in lines))

    def append(self, record: PassRecord) -> None:
        """Add a pass that has ended."""
        with self.path.open("a") as file:
            file.write(f"{self._line(record)}\n")

    @staticmethod
    def _line(record: PassRecord) -> str:
        return json.dumps(dataclasses.asdict(record))


@dataclass(frozen=True, kw_only=True)
class PassProgress:
    """How far the simulation of a decoder is.

    stage: golden or rtl; name: the running pass. passes_done, passes: of those that run in RTL;
    tokens_done, tokens: positions of the model that these cover. cycles: simulated in this run;
    cycles_per_s: wall time; left_s: None until a pass of each kind has ended.
    """

    stage: str
    name: str
    passes_done: int
    passes: int
    tokens_done: int
    tokens: int
    cycles: int = 0
    cycles_per_s: float = 0.0
    left_s: float | None = None


def expected_cycles(item: Pass, records: Iterable[tuple[Pass, PassRecord]]) -> float | None:
    """Mean cycles of the finished passes of the same kind and part, for each token in prefill."""
    same = [record.cycles / (other.tokens if item.kind == PREFILL else 1)
            for other, record in records
            if (other.kind, other.part) == (item.kind, item.part)]
    if not same:
        return None
    return sum(same) / len(same) * (item.tokens if item.kind == PREFILL else 1)
