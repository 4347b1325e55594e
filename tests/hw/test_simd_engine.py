"""Multiplier array engine against `hw.golden.multiplier`, with random stalls of the ports."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.config import HardwareConfig
from hw.fixed import wrapped
from hw.golden.multiplier import group_sums
from hw.golden.softmax import log2_weights
from hw.isa import LINE_BYTES, Opcode, SimdMode
from tests.hw.engines import Traffic, load_config
from tests.hw.linear_bench import run_linear
from tests.hw.simd_records import alpha_words, operand_words, weight_regions

SMALL = load_config(port_bits=64, lanes=16)
CONFIGS = {
    "one_chunk": SMALL,
    "two_chunks": dataclasses.replace(SMALL, simd_depth=2),
    "one_port": dataclasses.replace(SMALL, simd_depth=2, weight_ports=1),
}

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
    plain: int = 0

    def golden(self, config):
        minima = np.zeros_like(self.scales) if self.minima is None else self.minima
        log2 = self.mode == SimdMode.W8L4
        x = log2_weights(self.x).astype(np.int32) if log2 else self.x
        alphas = np.zeros_like(self.alphas) if self.plain or log2 else self.alphas
        return group_sums(x, self.weights, alphas, self.scales, minima,
                          self.group_rounds * config.word_elements, self.shift)


def make_layer(config, rng, mode, *, tokens, blocks, groups, group_rounds, has_min, first=1,
               plain=0, extreme=False):
    """Random operands; extreme: largest magnitudes, sign by row or column."""
    inputs = groups * group_rounds * config.word_elements
    columns = blocks * config.lanes
    limit = 7 if mode == SimdMode.W4A4 else 127
    low, high = (-128, 127) if mode in (SimdMode.W8A8, SimdMode.W8L4) else (-8, 7)
    x = rng.integers(-limit, limit, (tokens, inputs), endpoint=True)
    weights = rng.integers(low, high, (columns, inputs), endpoint=True)
    chunks = group_rounds * config.chunks_per_word
    alphas = -np.sort(-rng.integers(0, 4, (groups, chunks), endpoint=True)).reshape(-1)
    if mode == SimdMode.W8L4:
        x = rng.integers(0, 16, x.shape)
    if extreme:
        peaks = (0, 0) if mode == SimdMode.W8L4 else (limit, -limit)
        x = np.where(rng.integers(0, 2, (tokens, 1)), *peaks) * np.ones_like(x)
        weights = np.where(rng.integers(0, 2, (columns, 1)), high, low) * np.ones_like(weights)
        alphas = np.full_like(alphas, 4)
    scales = rng.integers(-(1 << 15), 1 << 15, (groups, columns))
    if mode == SimdMode.W8L4:
        scales = np.ones_like(scales)
    minima = rng.integers(-(1 << 15), 1 << 15, (groups, columns)) if has_min else None
    # Extremes must not exceed 32 bits.
    shift = 18 if mode == SimdMode.W8L4 else 16
    return Layer(mode, group_rounds, int(rng.integers(14, 24)) if not extreme else shift, first,
                 int(rng.integers(0, 2)), x.astype(np.int8), weights.astype(np.int8),
                 alphas.astype(np.uint8), scales.astype(np.int16),
                 None if minima is None else minima.astype(np.int16), plain)


@dataclasses.dataclass
class Program:
    """SIMD instructions with the memories that they read, and what they add up to."""

    config: HardwareConfig
    contents: list[bytearray]
    operands: dict = dataclasses.field(default_factory=dict)
    alphas: dict = dataclasses.field(default_factory=dict)
    tasks: list = dataclasses.field(default_factory=list)
    layers: list = dataclasses.field(default_factory=list)

    def add(self, layer, volatile=0):
        """Place a layer's operands behind those of the layers before."""
        config, number = self.config, len(self.tasks)
        tokens, blocks = len(layer.x), len(layer.weights) // config.lanes
        base, alpha_base = 4096 * number + 7, 64 * number + 3
        int8 = layer.mode in (SimdMode.W8A8, SimdMode.W8L4)
        self.operands |= dict(enumerate(
            operand_words(config, layer.x, layer.mode == SimdMode.W4A4), base))
        if not layer.plain and layer.mode != SimdMode.W8L4:
            self.alphas |= dict(enumerate(alpha_words(config, layer.alphas), alpha_base))
        regions = weight_regions(config, layer.weights, layer.scales, layer.minima,
                                 layer.group_rounds * config.word_elements, int8)
        line = len(self.contents[0]) // LINE_BYTES
        for content in self.contents:
            for region in regions:
                content += region
        self.layers.append(layer)
        self.tasks.append((Opcode.SIMD, {
            "address": line, "port_stride": len(regions[0]) // LINE_BYTES, "mode": layer.mode,
            "has_min": layer.minima is not None,
            "rounds": layer.x.shape[1] // config.word_elements, "tokens": tokens,
            "blocks": blocks, "group_rounds": layer.group_rounds, "shift": layer.shift,
            "operands": base, "alphas": alpha_base, "accumulator": 5, "bank": layer.bank,
            "first": layer.first, "plain": layer.plain, "volatile": volatile,
        }))

    def check(self, rng, seed, chance):
        """Run the instructions one by one; returns event totals and cycles of each."""
        config = self.config
        banks = rng.integers(-1000, 1000, (2, 64, config.lanes))
        expected = banks.copy()
        totals, cycles = run_linear(config, self.tasks, [bytes(one) for one in self.contents],
                                    self.operands, self.alphas, banks, Traffic(seed, chance))
        for layer in self.layers:
            golden = layer.golden(config).reshape(
                len(layer.x) * len(layer.weights) // config.lanes, -1)
            words = expected[layer.bank, 5:5 + len(golden)]
            words[:] = wrapped(golden if layer.first else words + golden, config.sum_bits)
        assert (banks == expected).all()
        return totals, cycles


def run(config, layers, seed=0, chance=1.0, volatile=0):
    """Check the sums of layers that run one by one; returns event totals and cycles of each."""
    rng = np.random.default_rng(seed)
    contents = [bytearray(rng.bytes(LINE_BYTES)) for _ in range(config.weight_ports)]
    program = Program(config, contents)
    for layer in layers:
        program.add(layer, volatile)
    return program.check(rng, seed, chance)


@settings(max_examples=5)
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
        "plain": st.integers(0, 1),
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


def test_sums_of_few_bits_wrap_around():
    config, rng = dataclasses.replace(SMALL, sum_bits=20), np.random.default_rng(5)
    layers = [
        make_layer(config, rng, mode, tokens=3, blocks=2, groups=2, group_rounds=2, has_min=True)
        for mode in SimdMode
    ]
    assert max(np.abs(layer.golden(config)).max() for layer in layers) > config.sum_max
    run(config, layers)


def test_events_count_steps_and_words():
    layer = make_layer(SMALL, np.random.default_rng(2), SimdMode.W4A4, tokens=3, blocks=2, groups=2,
                       group_rounds=2, has_min=True)
    totals, _ = run(SMALL, [layer], volatile=1)
    chunks = 2 * 2 * 2 * SMALL.chunks_per_word
    scale_words = SMALL.port_columns * 16 // SMALL.port_bits
    chunk_words = SMALL.port_columns * SMALL.simd_depth * 4 // SMALL.port_bits
    assert totals == {
        "simd_steps_w4a4": chunks * 2,
        "simd_steps_w4a8": 0,
        "simd_steps_w8a8": 0,
        "simd_steps_w8l4": 0,
        "scaler_steps": 3 * 2 * 2,
        "prefetched_words": 0,
        "weight_words": SMALL.weight_ports * (2 * 2 * 2 * scale_words + chunks * chunk_words),
    }


def test_a_chunk_is_computed_each_cycle():
    """Weights of the next group come in beside the products of this one."""
    layer = make_layer(SMALL, np.random.default_rng(3), SimdMode.W4A8, tokens=8, blocks=2, groups=3,
                       group_rounds=8, has_min=False)
    totals, cycles = run(SMALL, [layer])
    assert totals["simd_steps_w4a8"] == 8 * 2 * 3 * 8 * SMALL.chunks_per_word
    assert cycles[0] < totals["simd_steps_w4a8"] + 90
