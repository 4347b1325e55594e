"""The resource model against synthesis of single units, and against itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from hw import resources
from hw.config import HardwareConfig
from hw.presets import load_hardware, names
from hw.resources import Resources, estimate, memory, nibble_memory, total
from hw.synthesis import synthesize
from hw.units.accumulator import Accumulator
from hw.units.activate_engine import ActivateEngine
from hw.units.append_engine import AppendEngine
from hw.units.centroid_search import CentroidSearch
from hw.units.drain_engine import DrainEngine
from hw.units.gather_engine import GatherEngine
from hw.units.hadamard_engine import HadamardEngine
from hw.units.norm_engine import NormEngine
from hw.units.order_engine import OrderEngine
from hw.units.position_lane import PositionLane
from hw.units.quantize_engine import QuantizeEngine
from hw.units.rope_engine import RopeEngine
from hw.units.simd_engine import SimdEngine
from hw.units.softmax_engine import SoftmaxEngine
from hw.units.weight_prefetch import WeightPrefetch
from hw.verilog import convert

TINY = load_hardware("tiny")
COUNTS = [field.name for field in dataclasses.fields(Resources)]
ATTENTION = {"multiplier array", "norm", "rope", "softmax", "gather", "append"}

Model = Callable[[HardwareConfig], Resources]
UNITS: list[tuple[Callable[[HardwareConfig], Any], Model]] = [
    (AppendEngine, resources.append_engine),
    (OrderEngine, resources.order_engine),
    (WeightPrefetch, resources.weight_prefetch),
]
SLOW_UNITS: list[tuple[Callable[[HardwareConfig], Any], Model]] = [
    (Accumulator, resources.accumulator),
    (ActivateEngine, resources.activate_engine),
    (CentroidSearch, resources.centroid_search),
    (DrainEngine, resources.drain_engine),
    (GatherEngine, resources.gather_engine),
    (HadamardEngine, resources.hadamard_engine),
    (NormEngine, resources.norm_engine),
    (PositionLane, resources.position_lane),
    (QuantizeEngine, resources.quantize_engine),
    (RopeEngine, resources.rope_engine),
    (SimdEngine, resources.multiplier_array),
    (SoftmaxEngine, resources.softmax_engine),
]


@pytest.mark.parametrize(("unit", "model"), [
    *UNITS, *(pytest.param(*unit, marks=pytest.mark.slow) for unit in SLOW_UNITS),
])
def test_a_unit_takes_what_its_formula_says(unit, model, tmp_path):
    """Within 15 %, or a few cells where a unit has few."""
    source = tmp_path / "unit.v"
    source.write_text(convert(unit(TINY), "unit_top"))
    used = synthesize([source], "unit_top", "xilinx", tmp_path / "out").resources
    modelled = model(TINY)
    for name, few in {"lut": 60, "ff": 60, "bram36": 1, "dsp": 2, "uram": 0}.items():
        assert getattr(modelled, name) == pytest.approx(
            getattr(used, name), rel=0.15, abs=few), (name, modelled, used)


@pytest.mark.parametrize("name", names("hardware"))
def test_units_add_up_and_attention_comes_with_the_multiplier_array(name):
    config = load_hardware(name)
    units = estimate(config)
    for count in COUNTS:
        values = [getattr(unit, count) for unit in units.values()]
        assert min(values) >= 0
        assert getattr(total(config), count) == pytest.approx(sum(values))
    assert ATTENTION & set(units) == (ATTENTION if config.simd else set())


@pytest.mark.parametrize("change", [
    {"lanes": 64}, {"port_bits": 256, "lanes": 64}, {"simd_depth": 8}, {"chain_length": 8},
    {"group_max": 128}, {"accumulator_words": 1024}, {"vector_words": 8192},
    {"operand_words": 4096}, {"table_words": 512}, {"index_blocks": 128},
    {"activation_lanes": 8}, {"read_fifo_words": 256}, {"weight_ports": 4},
])
def test_larger_sizes_take_more(change):
    before, after = total(TINY), total(dataclasses.replace(TINY, **change))
    assert any(getattr(after, count) > getattr(before, count) for count in COUNTS)


@pytest.mark.parametrize("change", [
    {"log2_softmax": False}, {"hadamard": False}, {"token_order": False},
    {"simd": False, "log2_softmax": False},
    {"rowgen": False}, {"l2_search": False},
])
def test_a_circuit_without_a_feature_takes_fewer_luts(change):
    assert total(dataclasses.replace(TINY, **change)).lut < total(TINY).lut


def test_shapes_of_memories():
    assert memory(128, 32) == Resources(lut=80, ff=128)
    assert memory(128, 64) == Resources(lut=152, ff=128)
    assert memory(128, 65) == Resources(bram36=2)
    assert memory(256, 1024) == Resources(bram36=7.5)
    assert memory(6, 4096) == Resources(bram36=1)
    assert memory(512, 8192, uram=True) == Resources(uram=16)


def test_single_nibbles_waste_block_ram_unless_it_is_deep():
    assert nibble_memory(16, 256) == Resources(bram36=2)
    assert nibble_memory(16, 1024) == Resources(bram36=4)
    assert nibble_memory(16, 4096) == memory(64, 4096)
    assert nibble_memory(64, 16384) == Resources(bram36=128)
