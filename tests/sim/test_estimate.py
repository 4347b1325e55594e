"""The fast model: hand-worked cycles, structure against real programs, and the circuit itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from compiler.build import IMAGE_FILE
from compiler.decoder.build import DecoderCompiler
from compiler.decoder.quantize import quantize_decoder
from compiler.frontends.load import load_model
from compiler.frontends.shapes import SHAPES
from compiler.image.program import Instruction, Task, decode_program
from compiler.lower.attention import Span
from compiler.quant.scheme import load_scheme
from compiler.structure import drawn, structural_decoder
from hw.config import HardwareConfig
from hw.errors import ConfigError
from hw.isa import Opcode
from hw.presets import load_hardware
from hw.register_map import WORK
from lutrip.cli import main
from sim.circuit import circuit
from sim.decoder_build import open_build
from sim.estimate import aux_engines, early, engines, linear, port
from sim.estimate import machine as of
from sim.estimate import rows as row_of
from sim.estimate.breakdown import path_sums, repeats, short_name
from sim.estimate.machine import machine
from sim.estimate.model import ITERATIONS, pass_counters, sample_weights
from sim.estimate.packed import Shapes
from sim.estimate.plan import PlannedPass, Planner
from sim.estimate.program import Circuit
from sim.estimate.rows import pack_rows
from sim.memory_presets import load_memory
from sim.records import Job, MemoryModel
from sim.runner import simulate_passes
from tests.hw import test_norm_engine as norm_engine
from tests.sim.shared_ports import SHARED

TINY = load_hardware("tiny")
LATENCY = 10
MEAN_BOUND, WORST_BOUND = 0.01, 0.05


class Reads:
    """A read port and its rings, as the compiled functions take them."""

    def __init__(self, **memory: int | float) -> None:
        model = MemoryModel(**{"latency_cycles": LATENCY, "outstanding": 64, **memory})
        self.port = port.read_port(TINY, model)
        self.offered, self.taken = np.zeros(64, np.int64), np.zeros(256, np.int64)
        self.answered = np.zeros(port.BURST_RING, np.int64)

    @property
    def arguments(self) -> tuple[np.ndarray, ...]:
        """Port and rings."""
        return self.port, self.offered, self.taken, self.answered

    def command(self, cycle: int, address: int, words: int) -> int:
        """`port.command`."""
        return port.command(self.port, cycle, address, words)

    def take(self, words: int, ready: int = 0) -> list[int]:
        """Cycles in which words are taken."""
        return [int(port.take(*self.arguments, ready)) for _ in range(words)]


def test_waiting_words() -> None:
    """A start finds words that came before it; those behind them have room as these are taken."""
    reads, queue = Reads(), np.zeros(early.QUEUE_FIELDS, np.int64)
    words = early.EARLY_WORDS
    reads.command(0, 0, words + 1)
    early.enter(queue, *reads.arguments, words)
    arguments = queue, *reads.arguments
    assert early.peek(*arguments) == LATENCY + 4 + early.QUEUE_CYCLES
    assert early.take_all(*arguments, 500, words) == 500 + words - 1
    assert early.take(*arguments, 0) == 500 + words
    assert queue[early.ENTRIES] == 501


def row(**columns: int) -> np.ndarray:
    """A row of named columns."""
    made = np.zeros(row_of.ROW_FIELDS, np.int64)
    for name, value in columns.items():
        made[getattr(row_of, name)] = value
    return made


def test_word_after_a_command() -> None:
    """Taken at 0: issued 1, on the bus 2, memory 2..11, its register 12, the queue 14."""
    reads = Reads()
    assert reads.command(0, 0, 4) == 0
    assert reads.take(4) == [LATENCY + 4 + word for word in range(4)]


def test_slow_port_spaces_words() -> None:
    """Half a word a cycle; the first one is there at once."""
    reads = Reads(bytes_per_cycle=TINY.port_bytes / 2)
    reads.command(0, 0, 4)
    assert reads.take(4) == [14, 16, 18, 20]


def test_outstanding_bursts() -> None:
    """With one burst ahead the next is accepted behind the last answer: a latency later."""
    reads = Reads(outstanding=1)
    beats = int(reads.port[port.BEATS])
    reads.command(0, 0, 2 * beats)
    taken = reads.take(2 * beats)
    last_answer = taken[beats - 1] - port.MEMORY_CYCLES
    assert taken[beats] == last_answer + 1 + (LATENCY - 1) + port.MEMORY_CYCLES


def test_row_miss() -> None:
    """Bursts apart in address are row_miss_cycles apart on the bus."""
    reads = Reads(row_miss_cycles=7, row_bytes=64)
    reads.command(0, 0, 1)
    (first,) = reads.take(1)
    reads.command(0, 4096, 1)
    (second,) = reads.take(1)
    assert second - first == 1 + 7


def test_queue_limits_reading_ahead() -> None:
    """Words that nobody takes hold the port: one burst goes when as many words have gone."""
    reads = Reads(latency_cycles=60)
    depth, beats = int(reads.port[port.DEPTH]), int(reads.port[port.BEATS])
    reads.command(0, 0, depth + beats)
    taken = reads.take(depth, ready=1000)
    (late,) = reads.take(1)
    assert taken[0] == 1000
    assert late == taken[beats - 1] + 1 + 60 + port.MEMORY_CYCLES


def test_load() -> None:
    """Granted at 0: command 1, first word 15, one a cycle, complete a cycle behind the last."""
    reads = Reads()
    reads.command(1, 0, 4)
    assert aux_engines.load(row(WORDS=4), 0, *reads.arguments) == (19, 15)


def test_simd_of_one_group() -> None:
    """Six words by 19, three tokens of four chunks from 20 on, the pipeline behind them."""
    reads, sizes = Reads(), machine(TINY)
    reads.command(0, 0, 6)
    task = row(PARTS=1, WORDS=6, ROWS=3, PASS=4, STEPS=4)
    complete, waited = linear.simd(task, 0, sizes, *reads.arguments)
    assert waited == 20 - 1
    assert complete == 20 + 12 - 1 + sizes[of.SIMD_DRAIN]


def test_simd_halves_alternate() -> None:
    """Ten groups that compute longer than they load take their steps and the first load."""
    reads, sizes = Reads(latency_cycles=2), machine(TINY)
    reads.command(0, 0, 60)
    task = row(PARTS=10, WORDS=6, ROWS=5, PASS=4, STEPS=4)
    complete, waited = linear.simd(task, 0, sizes, *reads.arguments)
    first = 6 + 5 + 1
    assert waited == first - 1
    assert complete == first + 10 * 20 - 1 + sizes[of.SIMD_DRAIN]


def test_search_rounds() -> None:
    """A round of few tokens takes its centroids and two cycles until they can be used."""
    reads, sizes = Reads(latency_cycles=2), machine(TINY)
    one, two = (linear.search(row(ROUNDS=count, ROWS=2), 0, sizes, *Reads().arguments)[0]
                for count in (3, 4))
    assert two - one == sizes[of.CODES] + 2
    assert reads.port[port.TAKEN] == 0


def test_softmax_order_hadamard() -> None:
    """One row: seen words, rounds, stages, division; tokens by eights; words through stages."""
    sizes = machine(TINY)
    levels, adders = int(sizes[of.LEVELS]), int(sizes[of.SUM_LEVELS])
    task = row(ROWS=1, HEADS=1, WORDS=4, ROUNDS=8, START=20)
    seen = 20 // TINY.word_elements + 1
    written = 1 + 3 + seen + 2 + levels + 1 + 8 + 5 + 1
    assert engines.softmax(task, 0, sizes) == written + adders + 1 + engines.DIVISION_CYCLES
    assert engines.order(row(ROWS=9), 0) == 1 + 2 * (9 + 18)
    assert engines.hadamard(row(WORDS=5, EXTRA=3), 0) == 15 + 5 + 3


def norm_cycles(shape: dict[str, int], exact: int = 1) -> int:
    """Modelled cycles of a NORM of `norm_engine.simulate`, up to a constant."""
    sizes, reads = machine(norm_engine.SMALL), Reads(latency_cycles=2)
    sizes[of.EXACT] = exact
    reads.command(0, 0, int(sizes[of.HEADER]) + 2 * shape["words"])
    task = row(ROWS=shape["tokens"], WORDS=shape["words"], PASS=1 + shape["wide"],
               MODE=shape["center"])
    queue = np.zeros(early.QUEUE_FIELDS, np.int64)
    return aux_engines.norm(task, 0, sizes, queue, *reads.arguments)[0]


@pytest.mark.parametrize("shape", [
    {"tokens": 2, "words": 5}, {"tokens": 30, "words": 4}, {"tokens": 30, "words": 1},
    {"tokens": 9, "words": 9, "wide": 1}, {"tokens": 30, "words": 2, "center": 1},
    {"tokens": 9, "words": 7, "center": 1, "wide": 1}])
def test_norm_is_cycle_exact(shape: dict[str, int]) -> None:
    """Rounds of passes, scales that are waited for: as the engine itself, beyond one row."""
    many = norm_engine.ROWS | {"in_place": 1} | shape
    one = many | {"tokens": 1}
    alone, together = norm_engine.simulate(norm_engine.SMALL, [one, many], 1, (1, 1))
    assert norm_cycles(many) - norm_cycles(one) == together - alone


@pytest.mark.parametrize("words", [4, 64])
def test_norm_rounds_are_alike(words: int) -> None:
    """Most rows at the pace of the first ones; each takes three passes, or a root."""
    shape = norm_engine.ROWS | {"tokens": 200, "words": words}
    assert norm_cycles(shape, exact=0) == norm_cycles(shape)
    row_cycles = max(3 * words, aux_engines.ROOT_STEPS)
    assert norm_cycles(shape | {"tokens": 201}) - norm_cycles(shape) == row_cycles


def test_sample_weights_cover_all() -> None:
    """Sampled passes stand for every pass once, and for a line exactly."""
    weights = sample_weights(range(10), [0, 4, 9])
    assert sum(weights) == pytest.approx(10)
    assert np.dot(weights, [0, 4, 9]) == pytest.approx(sum(range(10)))


def test_structure_has_the_real_programs() -> None:
    """Rows of a quantized model's passes equal those of its structure, but for addresses."""
    scheme, prompt = load_scheme("simd-w4a8-tiny"), [3] * 10
    real = quantize_decoder(load_model("shape:tiny"), scheme, TINY, list(range(32)), 12)
    same = structural_decoder(SHAPES["tiny"], scheme, TINY, 12)
    made = Planner(same, len(prompt), 3)
    compiler = DecoderCompiler(real, prompt, 3)
    assert compiler.spans == made.spans
    for span in made.spans:
        ours = [task for stage in made.stages(same.layer(0), span) for task in stage.tasks]
        theirs = compiler.emitter.layer(real.layer(0), span)[0]
        for one, other in zip(ours, theirs, strict=True):
            packed = [row_of.pack_row(task.opcode, {**task.fields, "address": 0}, TINY)
                      for task in (one, other)]
            assert np.array_equal(*packed), one.op


def test_pace_of_long_instructions() -> None:
    """Instructions at the pace of their first parts take what they take in full, to 0.1 %."""
    config = load_hardware("sim")
    for scheme in ("simd-w4a8", "rowgen-2bit"):
        decoder = structural_decoder(SHAPES["smollm2-135m"], load_scheme(scheme), config, 20)
        item = Planner(decoder, 16, 3).planned(Span(17, 1), True)
        quick, full = (
            Circuit.of(config, MemoryModel(), exact=exact).run(item.rows, item.place, most).cycles
            for exact, most in ((False, 2), (True, 99)))
        assert quick == pytest.approx(full, rel=1e-3)


@pytest.mark.parametrize(("hardware", "scheme"), [
    (TINY, "lut2d-gather-tiny"), (SHARED, "rowgen-2bit")],
    ids=lambda value: str(value)[:12])
def test_against_rtl(
    circuits: Path, tmp_path: Path, hardware: HardwareConfig, scheme: str,
) -> None:
    """Cycles of every pass within a bound; the counters of the work are the circuit's."""
    decoder = structural_decoder(SHAPES["tiny"], load_scheme(scheme), hardware, 14,
                                 drawn(5))
    DecoderCompiler(decoder, [3] * 10, 3).write(tmp_path, {"model": "x", "scheme": "y"})
    build = open_build(tmp_path)
    jobs = [Job(program_address=item.program_address, expected={}) for item in build.passes]
    errors = []
    for memory in (MemoryModel(), MemoryModel(latency_cycles=25, bytes_per_cycle=5.0,
                                              outstanding=4, row_miss_cycles=5),
                   MemoryModel(latency_cycles=40, refresh_interval_cycles=300, refresh_cycles=40)):
        results = simulate_passes(
            circuit(hardware, circuits), hardware, tmp_path / IMAGE_FILE, jobs, tmp_path / "run",
            memory=memory, build_dir=circuits / "sim")
        for item, result in zip(build.passes, results, strict=True):
            program = decode_program(build.memory[item.program_address:])
            place = item.program_address // hardware.port_bytes
            rows = pack_rows(program, hardware)
            timeline = Circuit.of(hardware, memory).run(rows, place)
            errors.append(timeline.cycles / result.cycles - 1)
            stored = stored_pass(program, rows, place, hardware)
            found = dict(zip(stored.known.columns, pass_counters(stored, timeline), strict=True))
            for name in set(WORK) - {"prefetched_words", "skipped_rows"}:
                assert found[name] == result.counters[name], name
            for name in ("read_words_w0", f"read_words_w{hardware.weight_ports - 1}",
                         "read_words_centroid", "write_words"):
                assert found[name] == result.counters[name], name
    assert np.abs(errors).mean() <= MEAN_BOUND
    assert np.abs(errors).max() <= WORST_BOUND


def stored_pass(
    program: list[Instruction], rows: np.ndarray, place: int, hardware: HardwareConfig,
) -> PlannedPass:
    """A decoded program, its LOOPs without a shape."""
    shapes, numbers = Shapes(hardware), np.full(len(program), -1)
    tasks = [Task(opcode=opcode, fields=fields, op="stored") for opcode, fields in program]
    ran = np.array([task.opcode != Opcode.LOOP for task in tasks])
    numbers[ran] = shapes.pack([task for task in tasks if task.opcode != Opcode.LOOP]).shapes
    return PlannedPass(Span(0, 1), rows, numbers, np.zeros_like(numbers), place, shapes)


@pytest.mark.parametrize(("shape", "scheme", "hardware"), [
    ("smollm2-135m", "rowgen-3bit", "sim"), ("qwen3-1.7b", "rowgen-2bit", "u280"),
    ("qwen3-1.7b", "rowgen-2bit", "v80")])
def test_some_iterations_stand_for_the_loop(shape: str, scheme: str, hardware: str) -> None:
    """Iterations differ by where refresh comes, and by how far prefetched weights run ahead; cycles
    of the path are all there.
    """
    config = load_hardware(hardware)
    planner = Planner(structural_decoder(
        SHAPES[shape], load_scheme(scheme), config, 43), 40, 3)
    item = planner.planned(Span(40, 1), True)
    memory = load_memory("hbm2e-v80" if hardware == "v80" else "hbm2-u280")
    machine_of = Circuit.of(config, memory.at(config))
    whole = machine_of.run(item.rows, item.place)
    some = machine_of.run(item.rows, item.place, ITERATIONS)
    assert len(some.index) < len(whole.index) / 2
    assert some.cycles == pytest.approx(whole.cycles, rel=0.001)
    for timeline in (some, whole):
        path = path_sums(item, timeline)
        assert path.min() >= 0
        assert path.sum() == pytest.approx(timeline.cycles, rel=0.001)


def test_repeats_and_names() -> None:
    """Instructions of a loop's body run as often as it says."""
    rows = np.zeros((4, row_of.ROW_FIELDS), np.int64)
    rows[1, [row_of.OPCODE, row_of.ROUNDS, row_of.WORDS]] = 14, 6, 1
    assert list(repeats(rows)) == [1, 1, 6, 1]
    assert short_name("layers.3.attention.0.mix") == "attention.mix"


def test_memory_presets_reach_published_fractions() -> None:
    """Streaming: 0.92 to 0.94 of the peak on U280 and VU47P (Shuhai; the vendor's test)."""
    for name in ("hbm2-u280", "hbm2e-v80"):
        assert load_memory(name).streaming_fraction() == pytest.approx(0.93, abs=0.01)
    assert load_memory("ddr4-kv260").streaming_fraction() > 0.85
    assert load_memory("hbm2-u280").random_fraction(128) == pytest.approx(0.3, abs=0.05)
    model = load_memory("hbm2-u280").at(load_hardware("u280"))
    assert (model.latency_cycles, model.bytes_per_cycle) == (63, None)
    with pytest.raises(ConfigError, match="did you mean hbm2-u280"):
        load_memory("hbm2-u28")


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The keys that tools rely on; a longer context takes longer."""
    path = tmp_path / "estimate.json"
    assert main(["estimate", "--model", "shape:tiny", "--scheme", "simd-w4a8-tiny", "--hw", "tiny",
                 "--memory", "ideal", "--prefill", "8", "--decode", "40",
                 "--json", str(path)]) == 0
    values = json.loads(path.read_text())
    assert values["simulated"] is False
    for phase in (values["prefill"], values["decode"]):
        assert {"cycles", "latency_s", "energy_j", "tokens_per_s", "tokens_per_j", "tokens",
                "counters", "simulated"} <= set(phase)
    contexts = values["decode"]["contexts"]
    assert contexts[-1]["cycles"] > contexts[0]["cycles"]
    assert "modelled" in capsys.readouterr().out
    assert main(["estimate", "--model", "shape:tiny", "--scheme", "lut2d-tiny",
                 "--hw", "v80-lutllm"]) == 2
    assert "multiplier array" in capsys.readouterr().err
