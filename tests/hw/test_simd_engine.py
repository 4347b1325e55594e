"""Multiplier array engine against `hw.golden.multiplier`, with random stalls of the ports."""

import dataclasses
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from amaranth import Cat, Module, Signal
from amaranth.hdl import Elaboratable
from amaranth.lib import data
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.golden.multiplier import group_sums
from hw.interfaces import task_layout
from hw.isa import LINE_BYTES, Opcode, SimdMode
from hw.units.simd_engine import SimdEngine
from hw.units.weight_region import WeightRegion
from tests.hw.engines import ExternalMemory, Traffic, count, load_config, run_tasks, watch_held
from tests.hw.formal import prove_held
from tests.hw.simd_records import alpha_words, operand_words, weight_regions

SMALL = load_config(port_bits=64, lanes=16)
CONFIGS = {
    "one_chunk": SMALL,
    "two_chunks": dataclasses.replace(SMALL, simd_depth=2),
    "one_port": dataclasses.replace(SMALL, simd_depth=2, weight_ports=1),
}
REST = 2
"""Cycles from a use of an accumulator word to the next."""


@dataclasses.dataclass
class Layer:
    """Operands of one instruction and where they are."""

    mode: SimdMode
    group_rounds: int
    shift: int
    first: int
    bank: int
    x: np.ndarray
    weights: np.ndarray
    alphas: np.ndarray
    scales: np.ndarray
    minima: np.ndarray | None

    def golden(self, config):
        minima = np.zeros_like(self.scales) if self.minima is None else self.minima
        return group_sums(self.x, self.weights, self.alphas, self.scales, minima,
                          self.group_rounds * config.word_elements, self.shift)


def make_layer(config, rng, mode, *, tokens, blocks, groups, group_rounds, has_min, first=1,
               extreme=False):
    """Random operands; extreme: largest magnitudes, sign by row or column."""
    inputs = groups * group_rounds * config.word_elements
    columns = blocks * config.lanes
    limit = 7 if mode == SimdMode.W4A4 else 127
    low, high = (-128, 127) if mode == SimdMode.W8A8 else (-8, 7)
    x = rng.integers(-limit, limit, (tokens, inputs), endpoint=True)
    weights = rng.integers(low, high, (columns, inputs), endpoint=True)
    chunks = group_rounds * config.chunks_per_word
    alphas = -np.sort(-rng.integers(0, 4, (groups, chunks), endpoint=True)).reshape(-1)
    if extreme:
        x = np.where(rng.integers(0, 2, (tokens, 1)), limit, -limit) * np.ones_like(x)
        weights = np.where(rng.integers(0, 2, (columns, 1)), high, low) * np.ones_like(weights)
        alphas = np.full_like(alphas, 4)
    scales = rng.integers(-(1 << 15), 1 << 15, (groups, columns))
    minima = rng.integers(-(1 << 15), 1 << 15, (groups, columns)) if has_min else None
    return Layer(mode, group_rounds, int(rng.integers(14, 24)) if not extreme else 16, first,
                 int(rng.integers(0, 2)), x.astype(np.int8), weights.astype(np.int8),
                 alphas.astype(np.uint8), scales.astype(np.int16),
                 None if minima is None else minima.astype(np.int16))


async def accumulate(ctx, sums, banks):
    """Keep accumulator banks; a word that is used again too early is an error."""
    last_use, cycle = {}, 0
    while True:
        *_, valid, bank, address, first, values = await ctx.tick().sample(
            sums.valid, sums.bank, sums.address, sums.first, sums.sums
        )
        cycle += 1
        if valid:
            assert cycle - last_use.get((bank, address), -REST) >= REST
            last_use[bank, address] = cycle
            row = np.array(list(values), np.int64)
            banks[bank][address] = row if first else banks[bank][address] + row


async def serve(ctx, port, words, traffic):
    """Words of a dictionary in the cycle after a request, else garbage."""
    while True:
        *_, en, address = await ctx.tick().sample(port.en, port.address)
        garbage = traffic.random.getrandbits(len(port.data))
        ctx.set(port.data, words[address] if en else garbage)


def run(config, layers, seed=0, chance=1.0):
    """Check the sums of layers that run one by one; returns event totals and cycles of each."""
    rng = np.random.default_rng(seed)
    dut = SimdEngine(config)
    operands, alphas, tasks = {}, {}, []
    contents = [bytearray(rng.bytes(LINE_BYTES)) for _ in range(config.weight_ports)]
    for number, layer in enumerate(layers):
        int4 = layer.mode == SimdMode.W4A4
        tokens, blocks = len(layer.x), len(layer.weights) // config.lanes
        base, alpha_base = 4096 * number + 7, 1024 * number + 3
        operands |= dict(enumerate(operand_words(config, layer.x, int4), base))
        alphas |= dict(enumerate(alpha_words(config, layer.alphas), alpha_base))
        regions = weight_regions(config, layer.weights, layer.scales, layer.minima,
                                 layer.group_rounds * config.word_elements,
                                 layer.mode == SimdMode.W8A8)
        stride = len(regions[0]) // LINE_BYTES
        line = len(contents[0]) // LINE_BYTES
        for q in range(config.weight_ports):
            for region in regions:
                contents[q] += region
        tasks.append({
            "address": line, "port_stride": stride, "mode": int(layer.mode),
            "has_min": layer.minima is not None,
            "rounds": layer.x.shape[1] // config.word_elements, "tokens": tokens,
            "blocks": blocks, "group_rounds": layer.group_rounds, "shift": layer.shift,
            "operands": base, "alphas": alpha_base, "accumulator": 5, "bank": layer.bank,
            "first": layer.first,
        })
    banks = rng.integers(-1000, 1000, (2, 64, config.lanes))
    expected = banks.copy()
    totals = {}
    traffic = Traffic(seed, chance)
    external = [ExternalMemory(bytes(content), traffic) for content in contents]
    cycles = run_tasks(dut, tasks, [
        *(partial(external[q].serve, command=dut.commands[q], words=dut.words[q])
          for q in range(config.weight_ports)),
        *(partial(watch_held, port=command) for command in dut.commands),
        partial(serve, port=dut.operand, words=operands, traffic=traffic),
        partial(serve, port=dut.alpha, words=alphas, traffic=traffic),
        partial(accumulate, sums=dut.sums, banks=banks),
        partial(count, events=dut.events, totals=totals),
    ], limit=8000)

    for layer in layers:
        golden = layer.golden(config).reshape(len(layer.x) * len(layer.weights) // config.lanes, -1)
        words = expected[layer.bank, 5:5 + len(golden)]
        words[:] = golden if layer.first else words + golden
    assert (banks == expected).all()
    return totals, cycles


@settings(max_examples=15)
@given(
    name=st.sampled_from(sorted(CONFIGS)),
    seed=st.integers(0, 2**32 - 1),
    chance=st.sampled_from([1.0, 0.7, 0.4]),
    shapes=st.lists(st.fixed_dictionaries({
        "mode": st.sampled_from(SimdMode),
        "tokens": st.integers(1, 5),
        "blocks": st.integers(1, 3),
        "groups": st.integers(1, 3),
        "group_rounds": st.integers(1, 4),
        "has_min": st.booleans(),
        "first": st.integers(0, 1),
    }), min_size=1, max_size=2),
)
def test_layers_equal_golden(name, seed, chance, shapes):
    config = CONFIGS[name]
    rng = np.random.default_rng(seed)
    layers = [make_layer(config, rng, **shape) for shape in shapes]
    run(config, layers, seed, chance)


@pytest.mark.parametrize("mode", SimdMode, ids=lambda mode: mode.name)
def test_extreme_operands_equal_golden(mode):
    rng = np.random.default_rng(mode)
    rounds = SMALL.group_max // SMALL.word_elements
    layer = make_layer(SMALL, rng, mode, tokens=3, blocks=1, groups=1, group_rounds=rounds,
                       has_min=True, extreme=True)
    run(SMALL, [layer])


def test_many_short_groups_of_one_token_equal_golden():
    """Scales of several groups are on their way at once."""
    rng = np.random.default_rng(1)
    layers = [
        make_layer(SMALL, rng, mode, tokens=1, blocks=2, groups=12, group_rounds=1, has_min=False)
        for mode in SimdMode
    ]
    run(SMALL, layers)


@pytest.mark.parametrize("depth", [4, 8])
def test_wide_words_equal_golden(depth):
    config = load_config(simd_depth=depth, weight_ports=8 // depth)
    rng = np.random.default_rng(4)
    layers = [
        make_layer(config, rng, mode, tokens=3, blocks=1, groups=2, group_rounds=1, has_min=True)
        for mode in SimdMode
    ]
    run(config, layers)


def test_events_count_steps_and_words():
    layer = make_layer(SMALL, np.random.default_rng(2), SimdMode.W4A4, tokens=3, blocks=2, groups=2,
                       group_rounds=2, has_min=True)
    totals, _ = run(SMALL, [layer])
    chunks = 2 * 2 * 2 * SMALL.chunks_per_word
    scale_words = SMALL.port_columns * 16 // SMALL.port_bits
    chunk_words = SMALL.port_columns * SMALL.simd_depth * 4 // SMALL.port_bits
    assert totals == {
        "simd_steps_w4a4": chunks * 2,
        "simd_steps_w4a8": 0,
        "simd_steps_w8a8": 0,
        "scaler_steps": 3 * 2 * 2,
        "weight_words": SMALL.weight_ports * (2 * 2 * 2 * scale_words + chunks * chunk_words),
    }


def test_a_chunk_is_computed_each_cycle():
    """Weights of the next group come in beside the products of this one."""
    layer = make_layer(SMALL, np.random.default_rng(3), SimdMode.W4A8, tokens=8, blocks=2, groups=3,
                       group_rounds=8, has_min=False)
    totals, cycles = run(SMALL, [layer])
    assert totals["simd_steps_w4a8"] == 8 * 2 * 3 * 8 * SMALL.chunks_per_word
    assert cycles[0] < totals["simd_steps_w4a8"] + 90


class RegionOffers(Elaboratable):
    """The region reader in an environment that keeps its contract: a task stays until taken."""

    def __init__(self):
        self.dut = WeightRegion(SMALL)
        given = data.StructLayout({"go": 1, "task": task_layout(Opcode.SIMD), "ready": 1})
        self.i = SimpleNamespace(payload=Signal(given), valid=Signal())
        self.o = self.dut.commands[1]

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = self.dut
        given = self.i.payload
        offered = Cat(command.valid for command in dut.commands).any()
        with m.If((~dut.go | dut.known) & ~offered):
            m.d.sync += [dut.go.eq(given.go), dut.task.eq(given.task)]
        m.d.comb += dut.commands[0].ready.eq(given.ready)
        return m


def test_commands_are_held(tmp_path):
    prove_held(RegionOffers(), tmp_path)
