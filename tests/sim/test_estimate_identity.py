"""What makes the fast model fast changes none of its results."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from compiler.errors import CompileError
from compiler.frontends.shapes import SHAPES
from compiler.image.access import Access, Space
from compiler.image.hazards import conflicts
from compiler.lower.allocate import OutOfSpaceError
from compiler.quant.scheme import load_scheme
from compiler.structure import structural_decoder
from hw.isa import Engine
from hw.presets import load_hardware
from sim.estimate import jit, port
from sim.estimate.hazards import masks
from sim.estimate.model import ITERATIONS, SAMPLES, estimate, sampled
from sim.estimate.packed import NOWHERE, PLACE_COUNT, flattened
from sim.estimate.plan import Planner, program_rows
from sim.estimate.program import Circuit
from sim.records import MemoryModel
from tests.verify.estimate_points import KEPT, POINTS, differences, point_values


@pytest.mark.parametrize("number", range(len(POINTS)))
def test_kept_points(number: int) -> None:
    """Cycles, counters, operations and critical path of before; the command is in the module."""
    kept = json.loads(KEPT.read_text())["points"][number]
    assert not list(differences(kept, point_values(number)))


@pytest.mark.parametrize(("shape", "scheme", "hardware", "changes", "prompt"), [
    ("tiny", "lut2d-gather-tiny", "tiny", {}, 10),
    ("tiny-opt", "simd-w4a8-tiny", "tiny", {"tokens_max": 5}, 12),
    ("tiny-mistral", "simd-w4a4-agile-tiny", "tiny", {}, 24),
    ("smollm2-135m", "mix-lut-simd", "sim", {}, 40),
    ("qwen3-1.7b", "rowgen-2bit-sparse", "kv260", {}, 9),
    ("qwen3-1.7b", "simd-w4a8", "u280", {"lanes": 512}, 70),
])
def test_programs_are_the_linkers(
    shape: str, scheme: str, hardware: str, changes: dict[str, int], prompt: int
) -> None:
    """Rows, tokens and loops of a pass equal those of the compiler's own instructions."""
    config = dataclasses.replace(load_hardware(hardware), **changes)
    planner = Planner(structural_decoder(
        SHAPES[shape], load_scheme(scheme), config, prompt + 2), prompt, 3)
    emitter = planner.make_emitter(planner.halves)
    for span in (planner.spans[0], planner.spans[-1]):
        runs = [(group.first, group.last, emitter.layer(group.layer, span)[0])
                for group in planner.groups]
        program = planner.linker.link(emitter.embed(span), runs, emitter.next_token(span))
        item = planner.planned(span, True)
        assert np.array_equal(item.rows, program_rows(program, config))
        assert [len(item.shapes), len(item.names)] == [len(program.tasks)] * 2


def drawn_access(rng: np.random.Generator) -> Access:
    """A small access, in memory, where it may cross what is written, or in another store."""
    space = Space(int(rng.choice([Space.VECTOR, Space.OPERAND, Space.MEMORY])))
    wide = 20_000 if space == Space.MEMORY else 40
    return Access(space, bool(rng.integers(2)), int(rng.integers(wide)), int(rng.integers(1, 6)),
                  int(rng.integers(1, 4)), int(rng.integers(6)), int(rng.integers(1, 4)),
                  int(rng.integers(15)))


def edges_of(waits: np.ndarray, posts: np.ndarray) -> list[tuple[int, int]]:
    """Masks of all instructions as plain numbers."""
    return list(zip(waits.tolist(), posts.tolist(), strict=True))


def assigned(program: list[tuple[Engine, list[Access]]]) -> list[tuple[int, int]]:
    """Masks by the definition: an edge from every conflict that no other edges imply."""
    waits, posts = [0] * len(program), [0] * len(program)
    known: list[dict[Engine, int]] = []
    last: dict[Engine, int] = {}
    for index, needed in enumerate(conflicts(program)):
        engine = program[index][0]
        complete = dict(known[last[engine]]) if engine in last else {}
        for producer, latest in sorted(needed.items(), key=lambda item: -item[1]):
            if complete.get(producer, -1) < latest:
                waits[index] |= 1 << producer
                posts[latest] |= 1 << engine
                for other, seen in known[latest].items():
                    complete[other] = max(complete.get(other, -1), seen)
        complete[engine] = index
        known.append(complete)
        last[engine] = index
    return list(zip(waits, posts, strict=True))


@pytest.mark.parametrize("seed", range(40))
def test_masks_of_random_programs(seed: int) -> None:
    """Masks on arrays equal those that follow from word by word."""
    rng = np.random.default_rng(seed)
    program = [(Engine(int(rng.integers(5))),
                [drawn_access(rng) for _ in range(int(rng.integers(4)))]) for _ in range(60)]
    begins = np.cumsum([0, *(len(found) for _, found in program)])
    templates = np.array([flattened(access) for _, found in program for access in found])
    assert (templates[:, 2] == NOWHERE).all()
    places = np.zeros((len(program), PLACE_COUNT), np.int64)
    made = masks(np.array([int(engine) for engine, _ in program]), np.arange(len(program)), places,
                 begins, templates)
    assert edges_of(*made) == assigned(program)


@pytest.mark.parametrize("seed", range(10))
def test_words_together_and_one_by_one(seed: int) -> None:
    """Many words at once are taken when each alone would be."""
    rng, config = np.random.default_rng(seed), load_hardware("tiny")
    refresh = int(rng.integers(0, 40))
    memory = MemoryModel(
        latency_cycles=int(rng.integers(2, 90)), outstanding=int(rng.integers(1, 20)),
        bytes_per_cycle=[None, 5.3][seed % 2], row_miss_cycles=int(rng.integers(0, 9)),
        row_bytes=256, refresh_interval_cycles=int(rng.integers(50, 300)), refresh_cycles=refresh)
    both = []
    for _ in range(2):
        both.append((port.read_port(config, memory), np.zeros(256, np.int64),
                     np.zeros(port.ring_words(config), np.int64),
                     np.zeros(port.BURST_RING, np.int64)))
    cycle = 0
    for _ in range(20):
        words, address = int(rng.integers(1, 200)), int(rng.integers(0, 4096))
        for reads in both:
            port.command(reads[0], cycle, address, words)
        left = words
        while left:
            part = min(left, int(rng.integers(1, 60)))
            ready = cycle + int(rng.integers(0, 30))
            together = port.take_all(*both[0], ready, part)
            alone = [port.take(*both[1], ready) for _ in range(part)]
            assert together == alone[-1]
            cycle, left = together, left - part


def test_compiled_without_a_place_to_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where numba finds no folder it can write, functions are compiled for the process."""
    real, asked = jit.njit, []

    def nowhere(cache: bool = False, **options: object) -> object:
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    monkeypatch.setattr(jit, "njit", nowhere)

    @jit.compiled
    def twice(number: int) -> int:
        return 2 * number

    assert twice(21) == 42
    assert asked == [True, False]


def fits(planner: Planner, tokens: int) -> bool:
    """Whether every pass of so many tokens has room, by emitting it."""
    halves = dataclasses.replace(planner.halves, tokens_max=tokens)
    emitter, layer = planner.make_emitter(halves), planner.decoder.layer(0)
    try:
        for span in planner.trials(tokens):
            emitter.layer(layer, span)
    except OutOfSpaceError:
        return False
    return True


@pytest.mark.parametrize(("hardware", "parts"), [("kv260", 1), ("u280", 2)])
def test_no_tokens_between_fit(hardware: str, parts: int) -> None:
    """What is left out when a pass has no room does not fit either."""
    config = dataclasses.replace(load_hardware(hardware), tokens_max=48)
    planner = Planner(structural_decoder(
        SHAPES["qwen3-1.7b"], load_scheme("simd-w4a8"), config, 64), 60, 2)
    assert planner.halves.parts == parts
    assert fits(planner, planner.tokens_max)
    for tokens in range(planner.tokens_max + 1, 49):
        assert not fits(planner, tokens)


def test_words_bound_the_tokens() -> None:
    """How many tokens are tried next follows from the words that lack."""
    config = load_hardware("kv260")
    most = OutOfSpaceError("store", 10, 30, 25).most
    assert [most(8), OutOfSpaceError("store", 10, 30).most(8)] == [7, 7]
    assert OutOfSpaceError("store", 30, 30, 30).most(9) == 5
    with pytest.raises(CompileError, match="too few even for one token"):
        Planner(structural_decoder(SHAPES["qwen3-1.7b"], load_scheme("rowgen-2bit"),
                                   dataclasses.replace(config, vector_words=512), 9), 8, 2)


def test_sampled_passes_stand_for_all() -> None:
    """Cycles of many passes are those of all of them, though the last alone gives a token."""
    config = dataclasses.replace(load_hardware("sim"), tokens_max=4)
    decoder = structural_decoder(SHAPES["smollm2-135m"], load_scheme("simd-w4a8"), config, 90)
    found = estimate(decoder, MemoryModel(), 62, 28)
    planner, machine = Planner(decoder, 62, 29), Circuit.of(config, MemoryModel())
    cycles = {True: 0, False: 0}
    for span in planner.spans:
        item = planner.planned(span, span.end >= 62)
        cycles[span.position < 62] += machine.run(item.rows, item.place, ITERATIONS).cycles
    assert found.decode is not None
    assert (found.prefill.passes, len(found.prefill.contexts)) == (16, SAMPLES)
    assert found.prefill.cycles == pytest.approx(cycles[True], rel=0.004)
    assert found.decode.cycles == pytest.approx(cycles[False], rel=0.004)
    weights = [weight for _, weight in sampled(planner.spans[:16], 62, SAMPLES)]
    assert weights[-1] == 1
    assert sum(weights) == pytest.approx(16)
