"""Reads a decoder build, simulates what is left of it and collects the result."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compiler.build import IMAGE_FILE, METADATA_FILE
from compiler.decoder.build import load_decoder_build
from compiler.errors import FrontendError
from compiler.frontends.load import load_tokenizer
from hw.config import HardwareConfig
from hw.errors import LutripError
from hw.fixed import Ints
from sim.activity import FILE as ACTIVITY_FILE
from sim.activity import Changes, merge, read_changes
from sim.build import key_of
from sim.circuit import circuit
from sim.decoder import DecoderRun, GoldenPasses, pass_steps
from sim.decoder_result import decoder_values
from sim.passes import Pass, PassFile, PassProgress, choose, read_passes, run_key
from sim.records import Job, MemoryModel, SimulationResult
from sim.runner import simulate_passes
from sim.timeline import Span, read_events, spans, write_chrome_trace
from sim.toolchain import find_simulator
from sim.values import engine_names, span_values

KIND = "decoder"
"""What build.json calls a build of a whole model."""
RUN_DIR, PASS_FILE = "simulation", "passes.jsonl"


@dataclass(frozen=True, kw_only=True)
class DecoderBuild:
    """A decoder build: build.json, and its image, which is mapped and changes in memory only."""

    path: Path
    metadata: Mapping[str, Any]
    memory: Ints
    hardware: HardwareConfig
    passes: Sequence[Pass]


def open_build(path: Path) -> DecoderBuild:
    """Read and check a build folder; raises LutripError in one line."""
    memory, metadata = load_decoder_build(path)
    return DecoderBuild(
        path=path, metadata=metadata, memory=memory,
        hardware=HardwareConfig(**metadata["hardware"]),
        passes=read_passes(metadata, path / METADATA_FILE))


def text_of(model: str, tokens: Sequence[int]) -> str | None:
    """Tokens as text, None where the model's tokenizer is not there."""
    try:
        return load_tokenizer(model).decode(tokens)
    except FrontendError:
        return None


class Timelines:
    """Event logs of one prefill and one decode pass, kept in the run folder.

    The first of each kind to end that runs layers is kept: the others look alike and are long.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def forget(self) -> None:
        """Remove those of an earlier run."""
        for path in self.run_dir.glob("timeline_*.txt"):
            path.unlink()

    def keep(self, item: Pass, events: Path) -> None:
        """Keep a pass' log if it is the first of its kind."""
        kept = any(self.run_dir.glob(f"timeline_{item.kind}_*.txt"))
        if item.part in ("all", "layer") and not kept:
            shutil.copy(events, self.run_dir / f"timeline_{item.kind}_{item.index}.txt")

    def kept(self) -> list[tuple[int, Path]]:
        """Pass indices and logs, in order of the passes."""
        found = [(int(path.stem.rpartition("_")[2]), path)
                 for path in self.run_dir.glob("timeline_*.txt")]
        return sorted(found)


def execute_decoder(
    path: Path, *, simulator: str, waves: bool, activity: bool, max_cycles: int | None,
    memory: MemoryModel, build_dir: Path, resume: bool, sample_layers: Sequence[int] | None,
    progress: Callable[[str], None], passes: Callable[[PassProgress], None],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Simulate the passes of a decoder build; returns the values of its result and its spans.

    max_cycles: limit of each pass. resume: passes that an earlier run has finished, with the same
    image, circuit, simulator and memory, are not run again. sample_layers: only the passes of
    these layers run in RTL, golden does the rest. activity: see `sim.execute.execute`; nothing is
    kept from an earlier run then. passes: told the progress. Raises LutripError
    for a wrong build or layers that have no passes of their own, ToolError for a failing tool.
    """
    build = open_build(path)
    chosen = choose(build.passes, sample_layers, build.metadata["layers"][1])
    tool = find_simulator(simulator)
    sources = circuit(build.hardware, build_dir, progress)
    key = run_key(build.metadata["image_sha256"], key_of(files=sources),
                  f"{tool.name} {tool.version}", memory)
    run_dir = path / RUN_DIR
    run_dir.mkdir(parents=True, exist_ok=True)
    timelines = Timelines(run_dir)
    run = DecoderRun(build.passes, chosen, PassFile(path / PASS_FILE, key),
                     resume=resume and not activity,
                     keep_events=timelines.keep, tell=passes)
    if not run.resumed:
        timelines.forget()
    build_s: list[float] = []
    changes: list[Mapping[str, Changes]] = []

    def simulate(
        jobs: Sequence[Job], running: Callable[[int, int], None],
        finished: Callable[[int, SimulationResult], None],
    ) -> None:
        results = simulate_passes(
            sources, build.hardware, path / IMAGE_FILE, jobs, run_dir, simulator=simulator,
            memory=memory, waves=waves, activity=activity, max_cycles=max_cycles,
            build_dir=build_dir / "sim", image_key=build.metadata["image_sha256"],
            progress=progress, running=running, finished=finished)
        build_s.append(results[0].build_s)
        if activity:
            changes.append(read_changes(run_dir / ACTIVITY_FILE))

    progress("golden")
    golden = GoldenPasses(build.memory, build.hardware)
    run.run(golden, simulate)
    if not run.records:
        raise LutripError("no pass was simulated; give --sample-layers layers of the model")
    values = decoder_values(build.path, build.metadata, build.hardware, run, memory,
                            sample_layers, merge(changes) if activity else None)
    values |= {"circuit_build_s": sum(build_s), "text": text_of(
        build.metadata["model"], values["token_ids"])}
    found = _timeline(build, timelines, run, values)
    return values, found


def _timeline(
    build: DecoderBuild, timelines: Timelines, run: DecoderRun, values: dict[str, Any]
) -> list[dict[str, Any]]:
    """Spans of the kept passes, one behind the other; also the Chrome trace and their places."""
    found: list[dict[str, Any]] = []
    traced: list[Span] = []
    names: dict[Any, list[str]] = {}
    places: list[dict[str, Any]] = []
    start = 0
    for index, path in timelines.kept():
        if index not in run.records or not run.records[index].bit_exact:
            continue
        item, cycles = build.passes[index], run.records[index].cycles
        own = engine_names(pass_steps(build.memory, item), item.instructions)
        part = spans(read_events(path), cycles)
        found += span_values(part, own, start)
        traced += [Span(engine=span.engine, state=span.state, start=start + span.start,
                        end=start + span.end, order=len(names.get(span.engine, [])) + span.order)
                   for span in part]
        names = {engine: [*names.get(engine, []), *ops] for engine, ops in own.items()}
        places.append({"pass": item.name, "start_cycle": start, "cycles": cycles})
        start += cycles
    write_chrome_trace(build.path / "trace.json", traced, build.hardware.clock_mhz, names)
    values["timeline"] = places
    return found
