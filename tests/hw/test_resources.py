"""The resource model: rules of memories, sums of components, and what a device holds."""

from __future__ import annotations

import dataclasses

import pytest

from hw import resources
from hw.errors import ConfigError
from hw.presets import load_hardware, names
from hw.register_map import counters
from hw.resource_blocks import Memory, memory, mux_luts
from hw.resource_formulas import COMPONENTS, TERMS
from hw.resources import FITTED, FLOWS, Resources, coefficients, estimate, load_device, total

TINY = load_hardware("tiny")
COUNTS = [field.name for field in dataclasses.fields(Resources)]
ATTENTION = {"multiplier control", "packed dot products", "group scalers", "weight buffers", "norm",
             "rope", "softmax", "gather", "append"}


@pytest.mark.parametrize("name", names("hardware"))
def test_components_add_up_and_attention_comes_with_the_multiplier_array(name):
    config = load_hardware(name)
    components = estimate(config)
    for count in COUNTS:
        values = [getattr(component, count) for component in components.values()]
        assert min(values) >= 0
        assert getattr(total(config), count) == pytest.approx(sum(values))
    assert ATTENTION & set(components) == (ATTENTION if config.simd else set())


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
    {"rowgen": False}, {"l2_search": False}, {"sparse": False}, {"row_bits": 8},
])
def test_a_circuit_without_a_feature_takes_fewer_luts(change):
    assert total(dataclasses.replace(TINY, **change)).lut < total(TINY).lut


def test_tables_of_six_inputs_share_luts_but_not_all():
    for name in names("hardware"):
        config = load_hardware(name)
        whole = total(config)
        if FLOWS[load_device(config.device).family] == "xilinx":
            assert 0.6 < whole.lut / whole.lut_cells < 1
        else:
            assert whole.lut == whole.lut_cells


@pytest.mark.parametrize(("shape", "taken"), [
    # In tables: 14 x 32 or 7 x 64 bits in 8 LUTs, with a register behind the read.
    (Memory(128, 32), Resources(lut=80, lut_cells=80, ff=128)),
    (Memory(128, 64), Resources(lut=152, lut_cells=152, ff=128)),
    # Narrow memories stay in tables longer, with a multiplexer behind four of them.
    (Memory(8, 256), Resources(lut=72, lut_cells=72, ff=8)),
    (Memory(128, 65), Resources(bram36=2)),
    (Memory(256, 1024), Resources(bram36=7.5)),
    (Memory(6, 4096), Resources(bram36=1)),
    # Every granule fills whole write enables of 9 bits.
    (Memory(64, 256, granule=4), Resources(bram36=2)),
    (Memory(64, 4096, granule=4), Resources(bram36=8)),
])
def test_shapes_of_memories(shape, taken):
    assert memory(shape, "xilinx") == taken


@pytest.mark.parametrize(("shape", "taken"), [
    # 16 x 4 bits of a table memory take 6 LUTs, two rows of them a multiplexer.
    (Memory(128, 16), Resources(lut=192, lut_cells=192, ff=128)),
    (Memory(128, 32), Resources(lut=512, lut_cells=512, ff=128)),
    # Blocks pass on what is written: two registers and a LUT a bit, the address, the enable twice.
    (Memory(128, 64), Resources(lut=128, lut_cells=128, ff=264, bram36=2)),
    (Memory(128, 1024), Resources(lut=128, lut_cells=128, ff=268, bram36=4)),
    (Memory(6, 4096), Resources(lut=6, lut_cells=6, ff=26, bram36=1)),
    (Memory(256, 64, granule=128, sharing=2, alike=True),
     Resources(lut=256, lut_cells=256, ff=263, bram36=4)),
    (Memory(128, 64, sharing=2), Resources(lut=128, lut_cells=128, ff=197, bram36=2)),
    (Memory(64, 256, granule=4), Resources(lut=64, lut_cells=64, ff=168, bram36=2)),
])
def test_shapes_of_memories_of_ecp5(shape, taken):
    assert memory(shape, "ecp5") == taken


def test_ultraram_is_for_wide_deep_memories_of_devices_that_have_it():
    assert memory(Memory(512, 8192, wide=True), "xilinx", True).uram == 16
    assert memory(Memory(512, 8192, wide=True), "xilinx").uram == 0
    assert memory(Memory(512, 8192), "xilinx", True).uram == 0


@pytest.mark.parametrize(("inputs", "luts"), [(1, 0), (2, 1), (4, 1), (5, 2), (16, 5), (64, 21)])
def test_multiplexers_are_trees_of_four_inputs(inputs, luts):
    assert mux_luts(inputs, "xilinx") == mux_luts(inputs, "versal") == luts
    assert mux_luts(inputs, "ecp5") == inputs - 1


def test_versal_multiplies_wider_and_has_no_narrow_blocks():
    config = load_hardware("v80")
    other = dataclasses.replace(config, device="u280")
    assert total(config).dsp < total(other).dsp
    assert total(config).lut == pytest.approx(total(other).lut, rel=1e-3)
    assert total(config).bram36 > total(other).bram36


def test_a_device_says_what_does_not_fit_and_by_how_much():
    device = load_device("kv260")
    assert device.verdict(Resources(lut=1000)) == f"fits {device.title}"
    assert device.verdict(Resources(lut=117_120, dsp=100)) == (
        f"fits {device.title} without headroom: lut 100% (recommended at most 70%)")
    much = Resources(lut=130_000.2, bram36=150)
    assert not device.fits(much)
    assert device.verdict(much) == (
        f"does not fit {device.title}: exceeds lut by 12,881 (130,001 of 117,120), "
        "bram36 by 6 (150 of 144)")
    without = dataclasses.replace(device, uram=0)
    assert not without.fits(Resources(uram=1))
    assert without.fits(Resources(lut=1))


def test_a_device_is_of_a_known_family(tmp_path, monkeypatch):
    (tmp_path / "devices.yaml").write_text("card: {family: ice40}\n")
    monkeypatch.setattr(resources, "CONFIGS", tmp_path)
    resources._devices.cache_clear()
    try:
        with pytest.raises(ConfigError, match=(
                r"devices\.yaml card: family must be xilinx, versal, ecp5, not 'ice40'$")):
            load_device("card")
    finally:
        resources._devices.cache_clear()


def test_the_unit_of_a_count_is_the_devices():
    """A device of another family takes other tables, blocks and multipliers for one circuit."""
    other = total(dataclasses.replace(TINY, device="ecp5-85"))
    assert other.lut > 2 * total(TINY).lut
    assert other.dsp > 1.5 * total(TINY).dsp
    assert total(TINY).uram == 0
    assert total(dataclasses.replace(TINY, device="none")) == total(TINY)


def test_coefficients_belong_to_the_formulas(tmp_path, monkeypatch):
    terms = {name for component in COMPONENTS.values() for flow in FITTED
             for resource in FITTED[flow] for name in component.terms(resource, flow)}
    assert terms <= set(TERMS)
    (tmp_path / "resources").mkdir()
    (tmp_path / "resources" / "xilinx.yaml").write_text("norm: {lut: {}}\n")
    monkeypatch.setattr(resources, "CONFIGS", tmp_path)
    coefficients.cache_clear()
    try:
        with pytest.raises(ConfigError, match="missing key"):
            coefficients("xilinx")
    finally:
        coefficients.cache_clear()


@pytest.mark.parametrize("name", names("hardware"))
def test_counters_are_counted(name):
    config = load_hardware(name)
    assert TERMS["counter"](config) == len(counters(config))
