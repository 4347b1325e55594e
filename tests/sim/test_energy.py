"""Energy tables and the energy of known counters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hw.errors import ConfigError
from hw.presets import find, load_hardware, names
from hw.register_map import counters as counter_names
from hw.resources import Resources
from sim.counters import engine_times, lookups, port_bytes, products, weight_bytes
from sim.energy import CLOCK, COMPUTE, EVENTS, GROUPS, OFF_CHIP, ON_CHIP, STATIC, energy
from sim.energy_range import effects, likely_energy
from sim.energy_table import PROVENANCES, Bounds, load_energy

CONFIG = load_hardware("sim")
RESOURCES = Resources(lut=100_000, ff=200_000, bram36=300, uram=20, dsp=500)


def zeros(**values: int) -> dict[str, int]:
    return {"cycles": 0, **dict.fromkeys(counter_names(CONFIG), 0), **values}


def joules(**values: int) -> dict[str, Bounds]:
    return energy(zeros(**values), CONFIG, RESOURCES, load_energy("fpga-16nm", "u280")).groups()


@pytest.mark.parametrize("name", names("energy"))
def test_every_value_says_where_it_comes_from(name):
    device = {"fpga-7nm": "v80", "fpga-16nm": "u280"}[name]
    for value in load_energy(name, device).values.values():
        assert value.provenance in PROVENANCES
        assert len(value.source) > 10
        assert value.bounds.lower <= value.bounds.value <= value.bounds.upper


def test_off_chip_bits():
    groups = joules(read_words_w0=1000, read_words_aux=24)
    assert groups[OFF_CHIP].value == pytest.approx(1024 * 256 * 7.0e-12)
    assert groups[OFF_CHIP].upper == pytest.approx(1.4 * groups[OFF_CHIP].value)
    assert groups[ON_CHIP].value > 0
    assert groups[CLOCK].value == groups[STATIC].value == groups[COMPUTE].value == 0


def test_time_costs_clock_and_static_power():
    groups = joules(cycles=250_000_000)
    assert groups[CLOCK].value == pytest.approx(20.6e-15 * 200_000 * 250e6)
    assert groups[STATIC].value == pytest.approx(5.0 + 3.0)


def test_clock_of_the_published_v80_report():
    """1,013,377 flip-flops at 220 MHz take 6.733 W of clock power in that report."""
    table = load_energy("fpga-7nm", "v80")
    result = energy(zeros(cycles=220), CONFIG, Resources(ff=1_013_377), table)
    assert result.groups()[CLOCK].value / 1e-6 == pytest.approx(6.733, rel=0.01)


@pytest.mark.parametrize("counter", sorted({event.counter for event in EVENTS}))
def test_every_event_costs_energy(counter):
    name = counter + "w0" if counter.endswith("_") else counter
    result = energy(zeros(**{name: 1}), CONFIG, RESOURCES, load_energy("fpga-7nm", "v80"))
    assert 1e-13 < result.total.value < 1e-6
    assert 0 < result.total.lower < result.total.value < result.total.upper


def test_every_counter_of_work_is_charged():
    charged = {event.counter for event in EVENTS}
    for name in counter_names(CONFIG):
        # Prefetched words are port words, which are charged; skipped rows cost nothing.
        prefix = name.startswith(
            ("busy_", "waiting_", "read_words_", "prefetched_words", "skipped_rows"))
        assert prefix or name in charged, name


def test_rows_of_8_entries_cost_less():
    """Half the products and codebook bits, 3 of 4 index bits, a copy's 3 look-up tables of 5."""
    three = replace(CONFIG, lanes=256, index_bits=3)
    four, table = replace(three, index_bits=4), load_energy("fpga-7nm", "v80")
    items = [{(item.group, item.cause): item.joules.value
              for item in energy(zeros(lut_steps=1, rowgen_rows=1, row_reads=1), config, RESOURCES,
                                 table).items} for config in (three, four)]
    ratio = {key: items[0][key] / items[1][key] for key in items[1] if items[1][key]}
    assert ratio[ON_CHIP, "index buffers"] == pytest.approx(3 / 4)
    assert ratio[ON_CHIP, "table buffers"] == pytest.approx(1 / 2)
    assert ratio[COMPUTE, "linear (row generator)"] == pytest.approx(1 / 2)
    luts, ffs = (table[key].value for key in ("lut_toggle", "ff_toggle"))
    sums, copied = three.field_bits, three.entry_bits
    assert ratio[COMPUTE, "linear (lookup)"] == pytest.approx(
        (luts * (3 * copied + sums) + ffs * (copied + sums))
        / (luts * (5 * copied + sums) + ffs * (copied + sums)))


def test_json():
    result = energy(zeros(cycles=1000, lut_steps=500), CONFIG, RESOURCES,
                    load_energy("fpga-16nm", "u280"))
    assert result.total.value == pytest.approx(sum(item.joules.value for item in result.items))
    assert result.seconds == pytest.approx(4e-6)
    assert {item.group for item in result.items} == set(GROUPS)


def test_missing_counter():
    with pytest.raises(ValueError, match="no counter search_steps"):
        energy({"cycles": 1}, CONFIG, RESOURCES, load_energy("fpga-7nm", "v80"))


@pytest.mark.parametrize(("old", "new", "message"), [
    ("source: pdm", "source: gossip", "source 'gossip' is not under sources"),
    ("provenance: assumed", "provenance: rumour", "not 'rumour'"),
    ("lut_toggle: {value: 0.211", "lut_toggle: {value: -1", "must have 0 <= lower"),
    ("  ff_toggle:", "  ff_togle:", r"unknown key 'ff_togle'; did you mean ff_toggle\?"),
    ("uncertainty: 0.2,", "uncertainity: 0.2,", "unknown key 'uncertainity'"),
])
def test_bad_table(tmp_path, old, new, message):
    path = tmp_path / "bad.yaml"
    path.write_text(find("energy", "fpga-7nm").read_text().replace(old, new, 1))
    with pytest.raises(ConfigError, match=message):
        load_energy(str(path), "v80")


def test_unknown_device():
    with pytest.raises(ConfigError, match="no device 'v90'; known: v80"):
        load_energy("fpga-7nm", "v90")


def test_derived_counters():
    counters = zeros(cycles=100, busy_linear=60, waiting_linear=30, lut_steps=3,
                     simd_steps_w4a4=1, simd_steps_w4a8=1, simd_steps_w8l4=2,
                     read_words_w0=4, read_words_w3=1, read_words_aux=9, write_words=2)
    assert engine_times(counters)["linear"].idle_cycles == 10
    assert lookups(counters, CONFIG) == 3 * 8 * 64
    assert products(counters, CONFIG) == 5 * 64 * 8
    assert port_bytes(counters, CONFIG)["write"] == 64
    assert weight_bytes(counters, CONFIG) == 5 * 32


def test_the_card_takes_more_than_the_device():
    table = load_energy("fpga-7nm", "v80")
    result = energy(zeros(cycles=250_000_000), CONFIG, Resources(), table)
    expected = (22.0 + 8.9 + 1.93) / 0.87 + 5.0
    assert result.card.value == pytest.approx(expected)
    assert result.card.lower == pytest.approx(result.total.lower / 0.92 + 2.0)
    assert result.card.upper == pytest.approx(result.total.upper / 0.82 + 20.0)


def test_a_v80_card_near_idle_as_its_sensors_say():
    """AVED shows 32.4 W; a cool device leaks about 12 W, the low half of the table's bounds."""
    table = load_energy("fpga-7nm", "v80").at("static", 12.0)
    result = energy(zeros(cycles=250_000_000), CONFIG, Resources(), table)
    assert result.card.value == pytest.approx(32.4, rel=0.1)


def test_measured_toggles_take_the_tables_place():
    table, counters = load_energy("fpga-7nm", "v80"), zeros(lut_steps=1000, softmax_steps=1000)
    causes = {}
    for toggles in (None, {"lut": 0.125}):
        found = energy(counters, CONFIG, RESOURCES, table, toggles)
        causes[toggles is None] = {item.cause: item.joules for item in found.items}
    lookup = "linear (lookup)"
    assert causes[False][lookup].value == pytest.approx(causes[True][lookup].value / 2)
    assert causes[False]["softmax"] == causes[True]["softmax"]
    # What is left is the uncertainty of the energy of a change.
    assert causes[False][lookup].upper == pytest.approx(1.2 * causes[False][lookup].value)


def test_the_likely_range_lies_in_the_widest_and_holds_the_largest_effect():
    table, counters = load_energy("fpga-7nm", "v80"), zeros(cycles=100_000, lut_steps=50_000)
    widest = energy(counters, CONFIG, RESOURCES, table)
    on_chip, card = likely_energy(counters, CONFIG, RESOURCES, table)
    assert widest.total.lower < on_chip.lower < on_chip.value == widest.total.value
    assert widest.total.value < on_chip.upper < widest.total.upper
    assert card.value == widest.card.value
    assert card.upper - card.value > on_chip.upper - on_chip.value
    moved = effects(lambda changed: energy(counters, CONFIG, RESOURCES, changed).total.value, table)
    assert max(up for _, up in moved.values()) < on_chip.upper - on_chip.value
    assert moved["card_auxiliary"] == (0.0, 0.0)
    assert moved["lut_toggle"][1] == pytest.approx(-moved["lut_toggle"][0])
