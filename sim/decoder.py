"""Simulates a decoder build: golden ahead, then the circuit, pass after pass on one memory.

Every write of the circuit is compared, so its memory after a bit-exact pass equals golden's. That
is why a run can resume, and passes can be left to golden: before the next pass of the circuit, the
words that golden has written meanwhile are put into its memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from compiler.image.program import Step, decode_program, steps
from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.isa import LINE_BYTES
from sim.compare import Beats, ExpectedBeats
from sim.functional import Machine
from sim.locate import locate
from sim.passes import Pass, PassFile, PassProgress, PassRecord, expected_cycles
from sim.records import Job, Patch, SimulationResult

CHUNK_BYTES = 256 << 20
"""Expected beats that are held at a time; golden goes on when the circuit has run these passes."""
TOKEN_BYTES = 4

Simulate = Callable[
    [Sequence[Job], Callable[[int, int], None], Callable[[int, SimulationResult], None]], object
]
"""Runs jobs from the build's image on; told the callbacks ``running`` and ``finished``."""


class GoldenPasses:
    """Golden on the build's memory, and which words of it the circuit's memory lacks.

    memory: uint8 image, changed in place.
    """

    def __init__(self, memory: Ints, config: HardwareConfig) -> None:
        self.config = config
        self.machine = Machine(memory, config)
        words = len(memory) // config.port_bytes
        self._written = np.zeros(words, bool)
        self._lacking = np.zeros(words, bool)

    def run(self, item: Pass, *, simulated: bool) -> ExpectedBeats:
        """Run a pass; the circuit runs it too if ``simulated``, else its memory lacks the words."""
        beats: Mapping[str, Beats] = self.machine.run(item.program_address)
        words = np.asarray(beats["store"].address, np.int64) // self.config.port_bytes
        self._written[words] = True
        if not simulated:
            self._lacking[words] = True
        return beats

    def patch(self, *, fresh: bool) -> Patch | None:
        """What a circuit's memory lacks, from now on no more; fresh: it holds the image."""
        lacking = self._written if fresh else self._lacking
        words = np.flatnonzero(lacking)
        self._lacking[:] = False
        if not len(words):
            return None
        data = self.machine.memory.reshape(-1, self.config.port_bytes)[words]
        return Patch(words=words, data=data.copy())

    def token(self, item: Pass) -> int | None:
        """Token that a pass left in its slot."""
        if item.token_slot is None:
            return None
        raw = self.machine.memory[item.token_slot:item.token_slot + TOKEN_BYTES]
        return int(raw.copy().view("<i4")[0])


def pass_steps(memory: Ints, item: Pass) -> list[Step]:
    """Instructions of a pass as they run."""
    return list(steps(decode_program(memory[item.program_address:])))


def beats_bytes(beats: ExpectedBeats) -> int:
    """Memory that the beats of a pass take, roughly."""
    return sum(item.data.nbytes + item.address.nbytes + item.instruction.nbytes
               + (0 if item.mask is None else item.mask.nbytes) for item in beats.values())


class DecoderRun:
    """The passes of a build, what is known of them, and progress.

    passes: all; chosen: those that run in RTL. file: gets each pass' record when it ends.
    keep_events: told a pass and its event log before the log goes.
    """

    def __init__(
        self, passes: Sequence[Pass], chosen: Sequence[Pass], file: PassFile, *, resume: bool,
        keep_events: Callable[[Pass, Path], None] = lambda item, path: None,
        tell: Callable[[PassProgress], None] = lambda progress: None,
    ) -> None:
        self.passes, self.chosen, self.file = passes, chosen, file
        self._keep_events, self._tell = keep_events, tell
        indices = {item.index for item in chosen}
        found = file.load() if resume else {}
        self.records = {index: found[index] for index in sorted(found) if index in indices}
        file.restart(found.values())
        self.resumed = len(self.records)
        self.tokens: dict[int, int] = {
            index: record.token for index, record in self.records.items()
            if record.token is not None}
        self.golden_s = 0.0
        self._started = 0.0
        self._cycles = 0

    @property
    def failed(self) -> PassRecord | None:
        """The pass that was not bit-exact."""
        return next((record for record in self.records.values() if not record.bit_exact), None)

    @property
    def complete(self) -> bool:
        """Every chosen pass has run and was bit-exact."""
        return self.failed is None and len(self.records) == len(self.chosen)

    def run(self, golden: GoldenPasses, simulate: Simulate) -> None:
        """Run all passes that are left, in chunks; stops after one that is not bit-exact."""
        left = {item.index for item in self.chosen} - set(self.records)
        # Golden alone knows the tokens of passes that do not run in RTL.
        sampled = len(self.chosen) < len(self.passes)
        goal = len(self.passes) if sampled else max(left, default=-1) + 1
        chunk: list[tuple[Pass, Job]] = []
        size = 0
        for item in self.passes[:goal]:
            self._report("golden", item)
            simulated = item.index in left
            patch = golden.patch(fresh=not chunk) if simulated else None
            started = time.perf_counter()
            beats = golden.run(item, simulated=simulated)
            self.golden_s += time.perf_counter() - started
            if (token := golden.token(item)) is not None:
                self.tokens.setdefault(item.index, token)
            if simulated:
                chunk.append((item, self._job(item, beats, patch, golden.config)))
                size += beats_bytes(beats)
            if size >= CHUNK_BYTES:
                self._simulate(chunk, golden, simulate)
                chunk, size = [], 0
            if self.failed is not None:
                return
        if chunk:
            self._simulate(chunk, golden, simulate)

    @staticmethod
    def _job(
        item: Pass, beats: ExpectedBeats, patch: Patch | None, config: HardwareConfig
    ) -> Job:
        slot = item.token_slot
        output = None if slot is None else (slot, min(LINE_BYTES, config.port_bytes))
        return Job(program_address=item.program_address, expected=beats, output=output, patch=patch)

    def _simulate(
        self, chunk: Sequence[tuple[Pass, Job]], golden: GoldenPasses, simulate: Simulate
    ) -> None:
        finished_cycles = self._cycles
        self._started = 0.0

        def running(run: int, cycle: int) -> None:
            if not self._started:
                self._started = time.perf_counter()
            seconds = time.perf_counter() - self._started
            total = self._cycles + cycle
            rate = (total - finished_cycles) / seconds if seconds > 0 else 0.0
            self._report("rtl", chunk[run][0], cycle, rate)

        def finished(run: int, result: SimulationResult) -> None:
            item = chunk[run][0]
            self._cycles += result.cycles
            record = self._record(item, result, golden)
            self.records[item.index] = record
            if record.bit_exact:
                self._keep_events(item, result.events)
                result.events.unlink(missing_ok=True)
                if record.token is not None:
                    self.tokens[item.index] = record.token
            else:
                # Golden may be ahead of what the circuit did not reach.
                self.tokens = {index: token for index, token in self.tokens.items()
                               if index < item.index}
            self.file.append(record)

        simulate([job for _, job in chunk], running, finished)

    @staticmethod
    def _record(item: Pass, result: SimulationResult, golden: GoldenPasses) -> PassRecord:
        token = None
        if result.output:
            token = int(np.frombuffer(result.output[:TOKEN_BYTES], "<i4")[0])
        expanded = pass_steps(golden.machine.memory, item)
        first = result.first_mismatch
        where = None
        if first is not None:
            place = locate(first, expanded, item.instructions, golden.config)
            layer = item.layer if place["layer"] is None else place["layer"]
            where = {**place, "pass": item.name, "layer": layer}
        return PassRecord(
            index=item.index, name=item.name, status=result.status, errors=list(result.errors),
            bit_exact=result.bit_exact, cycles=result.cycles, counters=dict(result.counters),
            activity=dict(result.activity), beats={tap.tap: tap.beats for tap in result.taps},
            instructions=len(expanded), wall_s=result.wall_s, token=token,
            simulator=f"{result.simulator} {result.simulator_version}", first_mismatch=where,
        )

    def _report(self, stage: str, item: Pass, cycle: int = 0, rate: float = 0.0) -> None:
        done = set(self.records)
        groups: dict[int, list[Pass]] = {}
        for other in self.chosen:
            groups.setdefault(other.first, []).append(other)
        finished = [(other, self.records[other.index]) for other in self.chosen
                    if other.index in done]
        ahead = [expected_cycles(other, finished) for other in self.chosen
                 if other.index not in done]
        left = None
        if rate and None not in ahead:
            left = max(0.0, sum(count or 0.0 for count in ahead) - cycle) / rate
        self._tell(PassProgress(
            stage=stage, name=item.name, passes_done=len(done), passes=len(self.chosen),
            tokens_done=sum(group[0].tokens for group in groups.values()
                            if all(other.index in done for other in group)),
            tokens=sum(group[0].tokens for group in groups.values()),
            cycles=self._cycles + cycle, cycles_per_s=rate, left_s=left,
        ))
