"""Results of runs: the format of ``result.json`` and ``spans.json``, written and read back.

A finished run is a folder with ``result.json`` (an object with the keys of ``FORMAT``; more keys
are allowed) and ``spans.json`` (a list of the fields of `Span`). Keys carry their units. A
folder that compares runs holds ``summary.json``: ``{"runs": [{"folder": NAME, ...}], ...}``,
one folder beside it for each run. Its list ``tiny``, where there is one, holds the runs whose
cycles two simulators were compared on (`CHECKS`).

Meanings that the names do not say:

- ``status``: done, or how the run ended instead; ``errors``: the circuit's own error causes.
- ``beats``: for each engine that writes, how many words were compared with golden.
- ``first_mismatch``: null, or the first value in which RTL and golden differ; its fields are null
  where the circuit wrote what no instruction should; ``detail`` says what was found in words.
- ``engines``: for each engine cycles in which it ran an instruction (busy), in which its next
  instruction lacked tokens (waiting), and the rest up to ``cycles`` (idle).
- ``energy.causes``: joules with the low and high end of their uncertainty; ``provenance`` says
  where the energy values come from.
- ``accuracy``: relative error (Frobenius norm of the difference over that of the reference) of
  tensors of the block against the float forward pass.
- ``roofline.operations``: multiply-adds of the layers times tokens, whatever computes them;
  ``roofline.bytes``: bytes read through the weight ports.
- ``bits_per_weight``: bits read for each weight of the layers in the whole run; ``weights``
  through the weight ports, ``centroids`` through the centroid port.
- ``tokens_per_s`` and ``tokens_per_j`` are those of ``layers`` and ``parts`` alone.
- ``kind``: "decoder" for a whole model, whose further keys are in `reports.decoder_format`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compiler.image.image import write_atomically
from hw.errors import LutripError
from hw.isa import Engine
from reports.decoder_format import DECODER, DECODER_FORMAT, OR_NULL, PASS_FORMAT

BUILD = "build.json"
RESULT = "result.json"
TIMELINE = "spans.json"
SUMMARY = "summary.json"
ENGINES = tuple(engine.name.lower() for engine in Engine)

ANY_KEY = "any key"
FORMAT: dict[str, Any] = {
    "title": str, "model": str, "scheme": str, "hardware": {"name": str},
    "configuration_hash": str, "layers": str, "parts": [str], "tokens": int, "instructions": int,
    "simulated": bool, "simulator": str, "status": str, "errors": [str],
    "bit_exact": bool, "beats": {ANY_KEY: int},
    "first_mismatch": (OR_NULL, {
        "instruction": (OR_NULL, int), "opcode": str, "op": (OR_NULL, str), "element": object,
        "expected": object, "got": object, "cycle": object, "detail": str,
    }),
    "cycles": int, "clock_mhz": float, "latency_s": float, "tokens_per_s": float,
    "energy_j": float, "tokens_per_j": float,
    "energy": {"table": str, "causes": [{
        "cause": str, "joules": float, "low_joules": float, "high_joules": float,
        "provenance": str,
    }]},
    "engines": [{"engine": str, "busy_cycles": int, "waiting_cycles": int, "idle_cycles": int}],
    "ports": [{
        "port": str, "words": int, "bytes": int, "bytes_per_cycle": float,
        "limit_bytes_per_cycle": float,
    }],
    "counters": {ANY_KEY: int},
    "memory": {"latency_cycles": float, "bytes_per_cycle": float, "outstanding": int},
    "accuracy": [{"tensor": str, "relative_error": float}],
    "roofline": {
        "operations": int, "bytes": int, "operations_per_byte": float,
        "operations_per_cycle": float, "peak_operations_per_cycle": float,
        "bytes_per_cycle": float,
    },
    "resources": {"lut": float, "ff": float, "bram36": float, "uram": float, "dsp": float},
    "device": str, "fits": bool,
    "bits_per_weight": {"weights": float, "centroids": float},
    "lookups": int, "products": int,
    "wall_s": float, "cycles_per_wall_s": float,
    "memory_map": [{"section": str, "address": int, "bytes": int}],
}
"""Keys of a result and what they hold; ``float`` takes whole numbers too."""

CHECKS = [{
    "scheme": str, "bit_exact": bool, "verilator_cycles": int, "icarus_cycles": (OR_NULL, int),
    "equal": bool,
}]
"""Runs on two simulators, in a summary's ``tiny``; null where Icarus was not there."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """One instruction on one engine, in cycles from the start of the program."""

    engine: str
    name: str
    start_cycle: int
    end_cycle: int

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ValueError(f"{TIMELINE}: no engine is called {self.engine!r}")
        for cycle in (self.start_cycle, self.end_cycle):
            if not isinstance(cycle, int) or isinstance(cycle, bool) or cycle < 0:
                raise ValueError(f"{TIMELINE}: cycles must be whole numbers, not {cycle!r}")


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run: the values of its result file and its instruction spans.

    build: what the folder's build.json says, empty where there is none.
    """

    path: Path
    values: Mapping[str, Any]
    spans: tuple[Span, ...]
    build: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    @property
    def name(self) -> str:
        """Short name of the run: its scheme."""
        return str(self.values["scheme"])

    @property
    def is_decoder(self) -> bool:
        """Whether a whole model ran."""
        return self.values.get("kind") == DECODER


def check(value: Any, form: Any, where: str) -> None:
    """Raise ValueError, in one line, for the first value that is not of its form."""
    if isinstance(form, tuple):
        if value is not None:
            check(value, form[1], where)
    elif isinstance(form, dict):
        if not isinstance(value, dict):
            raise ValueError(f"{where} must be an object, not {value!r:.40}")
        if ANY_KEY in form:
            form = dict.fromkeys(value, form[ANY_KEY])
        for key, inner in form.items():
            if key not in value:
                raise ValueError(f"{where} lacks {key}")
            check(value[key], inner, f"{where}.{key}")
    elif isinstance(form, list):
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where} must be a list, not {value!r:.40}")
        for index, item in enumerate(value):
            check(item, form[0], f"{where}[{index}]")
    elif form is float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"{where} must be a number, not {value!r:.40}")
        if not math.isfinite(value):
            raise ValueError(f"{where} must be finite, not {value}")
    elif not isinstance(value, form) or (form is int and isinstance(value, bool)):
        raise ValueError(f"{where} must be {form.__name__}, not {value!r:.40}")


def run_record(
    path: Path, values: Mapping[str, Any], spans: Sequence[Mapping[str, Any]],
    build: Mapping[str, Any] | None = None,
) -> RunRecord:
    """Check the values of a run and its spans; raises ValueError for the first that is wrong."""
    check(values, FORMAT, "result")
    if values.get("kind") == DECODER:
        check(values, DECODER_FORMAT, "result")
        for index, item in enumerate(values["passes"]):
            if item["simulated"]:
                check(item, PASS_FORMAT, f"result.passes[{index}]")
    try:
        return RunRecord(path=path, values=values, spans=tuple(Span(**span) for span in spans),
                         build=build or {})
    except TypeError as error:
        raise ValueError(f"{TIMELINE}: {error}") from None


def write_record(record: RunRecord) -> None:
    """Write both files of a run, the result last: a folder with a result is a finished run."""
    spans = [dataclasses.asdict(span) for span in record.spans]
    for name, value in ((TIMELINE, spans), (RESULT, record.values)):
        text = json.dumps(value, indent=2 if name == RESULT else None, allow_nan=False)
        write_atomically(record.path / name, f"{text}\n".encode())


def load_record(folder: Path) -> RunRecord:
    """Read a simulated build; raises LutripError in one line when it is not one."""
    values = _load(folder, RESULT)
    spans = _load(folder, TIMELINE)
    try:
        check(spans, [{}], TIMELINE)
        build = _load(folder, BUILD) if (folder / BUILD).is_file() else {}
        check(build, {}, BUILD)
        return run_record(folder, values, spans, build)
    except ValueError as error:
        raise LutripError(f"{folder}: damaged result ({error}); simulate again") from None


def load_records(folder: Path) -> list[RunRecord]:
    """A run's own record, or those of the runs that a summary in the folder lists."""
    if not folder.is_dir():
        raise LutripError(f"{folder}: no such folder; give the folder of a run or of a demo")
    if (folder / RESULT).is_file() or not (folder / SUMMARY).is_file():
        return [load_record(folder)]
    runs = _summary(folder)["runs"]
    if not runs:
        raise LutripError(f"{folder / SUMMARY}: lists no runs")
    return [load_record(folder / run["folder"]) for run in runs]


def load_checks(folder: Path) -> list[dict[str, Any]]:
    """Runs on two simulators that the folder's summary lists, if it has one."""
    if (folder / RESULT).is_file() or not (folder / SUMMARY).is_file():
        return []
    checks: list[dict[str, Any]] = _summary(folder)["tiny"]
    return checks


def _summary(folder: Path) -> dict[str, Any]:
    summary = _load(folder, SUMMARY)
    try:
        check(summary, {"runs": [{"folder": str}]}, "summary")
        summary.setdefault("tiny", [])
        check(summary["tiny"], CHECKS, "summary.tiny")
    except ValueError as error:
        raise LutripError(f"{folder / SUMMARY}: damaged ({error}); run it again") from None
    values: dict[str, Any] = summary
    return values


def _load(folder: Path, name: str) -> Any:
    path = folder / name
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise LutripError(
            f"{folder}: holds no finished run (no {name}); run 'lutrip simulate {folder}' first"
        ) from None
    except OSError as error:
        raise LutripError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise LutripError(f"{path}: damaged ({error}); simulate again") from None
