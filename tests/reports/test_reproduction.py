"""The published numbers derived again: their bars, and that the page is what its command writes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hw.errors import LutripError
from hw.presets import names
from reports.reproduction.__main__ import ROOT
from reports.reproduction.agilequant import (
    KERNELS,
    end_to_end,
    packed_products,
    published_speedups,
)
from reports.reproduction.lutllm_design import (
    Design,
    Operators,
    Round,
    head_round,
    layer_bytes,
    layer_cycles,
    rounds,
)
from reports.reproduction.lutllm_grid import SETTINGS, cycles, milliseconds
from reports.reproduction.lutllm_latency import (
    HONEST_INT4,
    HONEST_INT8,
    PAPER,
    bandwidth,
    implied_cycles,
    latencies,
    model_of,
    own_cycles,
    sensitivity,
)
from reports.reproduction.lutllm_power import (
    CAUSES,
    by_events,
    default_activity,
    device_table,
    likely_total,
    published_watts,
    total,
)
from reports.reproduction.own_rounds import PASSES, own_round
from reports.reproduction.page import COMMAND, page
from reports.reproduction.prediction import predictions
from reports.reproduction.published import fit_line, load_published

DATA = load_published("lut-llm")
MODEL = model_of(DATA)


@pytest.mark.parametrize("name", names("published"))
def test_every_published_number_names_its_source(name):
    data = load_published(name)

    def sources(value):
        if isinstance(value, dict):
            for key, item in value.items():
                yield from [item] if key == "source" else sources(item)
        elif isinstance(value, list):
            for item in value:
                yield from sources(item)

    used = set(sources({key: value for key, value in data.items() if key != "sources"}))
    assert used
    assert used == set(data["sources"])


@pytest.mark.parametrize("item", latencies(DATA), ids=lambda item: f"{item.prompt}-{item.output}")
def test_published_latency_within_three_percent(item):
    assert abs(item.deviation) <= 0.03
    assert item.ours[PAPER] < item.ours[HONEST_INT4] < item.ours[HONEST_INT8]


def test_geometry_of_the_published_design():
    """Counted by hand from the released kernels' loops."""
    assert rounds(Design(), MODEL) == [
        Round(name="query, key, value", groups=64, blocks=8),
        Round(name="output", groups=64, blocks=4),
        Round(name="up and gate", groups=64, blocks=24),
        Round(name="down", groups=192, blocks=4)]
    loads = [item.groups * item.load_cycles(Design()) for item in rounds(Design(), MODEL)]
    assert loads == [6144, 64 * 64, 18432, 192 * 64]
    wide = dataclasses.replace(Design(), entry_bits=8)
    assert [item.groups * item.load_cycles(wide) for item in rounds(wide, MODEL)] == [
        10240, 5120, 30720, 15360]
    moved = layer_bytes(Design(), MODEL, 32)
    assert moved["tables and indices"] == 36864 * 16 * 64
    assert moved["centroids"] == 6144 * 64 * 8
    assert head_round(Design(), MODEL).blocks == 297


def test_cycles_of_a_layer_near_the_implied_ones():
    implied, own = implied_cycles(DATA), own_cycles(DATA)
    assert implied["decode"] == pytest.approx(45_607, rel=0.001)
    assert own["decode"] == pytest.approx(implied["decode"], rel=0.03)
    for name in ("prefill(32)", "prefill(128)"):
        assert own[name] == pytest.approx(implied[name], rel=0.05)
    assert bandwidth(DATA)["part of the ports"] == pytest.approx(0.92, abs=0.05)


def test_decode_hardly_depends_on_the_assumed_latencies():
    def decode(add):
        return sum(layer_cycles(Design(), MODEL, 1, 32, Operators(add=add)).values())

    assert decode(6) / decode(4) < 1.03


def test_only_the_assumed_latencies_meet_the_bar_everywhere():
    good = [operators for operators, found in sensitivity(DATA).items()
            if all(abs(value) <= 0.03 for value in found)]
    assert good == [Operators()]


def test_the_authors_model():
    for name, tokens, phase, count, _, latency in DATA["grid"]["rows"]:
        decode = phase == "decode"
        assert cycles(SETTINGS[name], MODEL, tokens, decode) == pytest.approx(count, rel=1e-6)
        assert milliseconds(SETTINGS[name], MODEL, tokens, decode) == pytest.approx(
            latency, rel=1e-3)


def test_power_of_the_published_design():
    published = published_watts(DATA)
    assert sum(published.values()) == pytest.approx(DATA["power"]["total"], abs=0.01)
    table = device_table()
    watts = default_activity(DATA, table)
    assert set(watts) == set(CAUSES) == set(published)
    assert total(watts).value == pytest.approx(
        DATA["power"]["total"], rel=DATA["power"]["uncertainty"])
    events = total(by_events(DATA, table))
    assert events.value < total(watts).value
    assert by_events(DATA, table)["logic"].value < watts["logic"].value
    found, widest = likely_total(default_activity, DATA, table)
    assert total(watts).lower < found.lower < found.upper < total(watts).upper
    assert next(iter(widest)) == "static"


def test_the_packed_multiplier_is_exact_for_all_operands():
    first, second, activation = np.meshgrid(*[np.arange(16)] * 3)
    products, instructions = packed_products(first, second, activation)
    assert np.array_equal(products & 0xFFFF, first * activation)
    assert np.array_equal(products >> 16, second * activation)
    kernel = next(item for item in KERNELS if "Agile-Quant" in item.name)
    assert list(kernel.instructions) == instructions


def test_agile_quant_ratios():
    data = load_published("agile-quant")
    published, own = published_speedups(data), end_to_end(data)
    assert published["4 bits"][1] == pytest.approx(2.54, abs=0.01)
    assert own["8 bits"] == pytest.approx(sum(published["8 bits"]) / 2, rel=0.05)
    assert own["4 bits"] > published["4 bits"][1]


def test_a_design_that_set_nothing():
    found = {item.name: item for item in predictions(load_published("kv260"))}
    bound = found["Li et al."]
    assert bound.tokens_per_second.lower < bound.published < bound.tokens_per_second.upper
    assert bound.tokens_per_second.value == pytest.approx(bound.published, rel=0.05)
    assert bound.capacity_part == pytest.approx(bound.published_capacity, rel=0.05)
    assert all(item.tokens_per_second.lower > item.published
               for name, item in found.items() if name.startswith("TeLLMe"))


def test_fit_line():
    assert fit_line([16, 64, 256], [5 + 2 * x for x in (16, 64, 256)]) == pytest.approx((5, 2))


def test_the_page_needs_the_checkouts_measurements(tmp_path):
    with pytest.raises(LutripError, match=r"accuracy\.json: .*; run this in a checkout"):
        page(tmp_path)


def test_the_page_is_up_to_date():
    """Its numbers come from tables, formulas and measurements: made anew when one changes."""
    assert (ROOT / "docs" / "reproduction.md").read_text() == page(ROOT), f"run {COMMAND}"


def test_own_circuit_looks_up_as_fast_as_the_published_one() -> None:
    design, model = Design(), model_of(DATA)
    for tokens in PASSES.values():
        ours = [own_round(design, item, tokens).lookups for item in rounds(design, model)]
        published = [item.groups * max(item.load_cycles(design), tokens * item.blocks)
                     for item in rounds(design, model)]
        assert abs(sum(ours) / sum(published) - 1) < 0.03
        assert all(abs(a / b - 1) < 0.05 for a, b in zip(ours, published, strict=True))
