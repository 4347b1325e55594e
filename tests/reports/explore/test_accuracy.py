"""Losses of schemes: sums of linears, whole models, precisions of the hardware."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from compiler.quant.scheme import load_scheme
from hw.errors import ConfigError
from hw.presets import load_hardware
from reports.explore.accuracy import (
    Sensitivities,
    UnknownSchemeError,
    curve,
    load_sensitivities,
    map_key,
    scheme_key,
    sensitivities_of,
)
from reports.explore.precision import EXACT, Precision, evaluated, with_precision
from tests.verify import sensitivity

KEYS, VALUES = Precision(key_bits=4), Precision(value_bits=4)
BOTH = Precision(key_bits=4, value_bits=4)
CACHED = ((KEYS, "simd-w4a8", 0.03, "keys"), (VALUES, "simd-w4a8", 0.01, "values"),
          (KEYS, "rowgen-2bit", 0.07, "keys of rowgen"))
TOGETHER = (BOTH, "simd-w4a8", 0.05, "keys and values")


def cache_rows(*rows: tuple[Precision, str, float, str]) -> list[dict]:
    return [{"key_bits": precision.key_bits, "value_bits": precision.value_bits,
             "key": map_key(load_scheme(name)), "nats": nats, "source": source}
            for precision, name, nats, source in rows]


def table(more: dict | None = None, **whole: float) -> Sensitivities:
    linears = ("q", "k", "v", "o", "gate", "up", "down")
    def row(name: str, loss: float) -> dict:
        part = load_scheme(name).default
        return {"name": name, "key": scheme_key(part),
                "losses": {linear: [loss, 2 * loss] for linear in linears}}
    rounded = [{"row_bits": 12, "key": map_key(load_scheme(name)), "nats": nats, "source": source}
               for name, nats, source in (("rowgen-2bit", 0.5, "narrow row"),
                                          ("rowgen-1.5bit", 0.25, "another row"))]
    return sensitivities_of({
        "rounded": rounded,
        "model": "m", "layers": 2, "command": "made up",
        "schemes": [row("rowgen-2bit", 0.5), row("simd-w4a8", 0.01)],
        "whole": [{"key": map_key(load_scheme(name)), "perplexity_ratio": ratio, "source": "row"}
                  for name, ratio in whole.items()]}, more)


def cached(*rows: tuple[Precision, str, float, str], **whole: float) -> Sensitivities:
    """With what narrow caches add, from the user's file."""
    return table({"schemes": [], "cache": cache_rows(*rows)}, **whole)


def test_losses_add_up_over_linears_and_layers(tmp_path):
    known = table()
    assert known.loss(load_scheme("rowgen-2bit")).nats == pytest.approx(7 * 1.5)
    mix = dataclasses.replace(load_scheme("simd-w4a8"), layers={
        "down": load_scheme("rowgen-2bit").default, "1.up": load_scheme("rowgen-2bit").default})
    found = known.loss(mix)
    assert found.nats == pytest.approx(5 * 0.03 + 1.5 + 0.01 + 1.0)
    assert found.provenance == "predicted"
    gathered = load_scheme("lut2d-gather").default
    assert scheme_key(gathered) == scheme_key(load_scheme("lut2d").default)
    with pytest.raises(UnknownSchemeError, match="no sensitivity of m is known"):
        known.loss(load_scheme("lut2d"))


def test_rounded_rows_lose_more():
    known = table(**{"rowgen-2bit": 2.0, "rowgen-1.5bit": 3.0})
    rows, multipliers = load_scheme("rowgen-2bit"), load_scheme("simd-w4a8")
    found = known.loss(rows, Precision(row_bits=12))
    assert found.nats == pytest.approx(math.log(2) + 0.5)
    assert (found.provenance, found.source) == ("measured", "narrow row")
    other = known.loss(load_scheme("rowgen-1.5bit"), Precision(row_bits=12))
    assert other.nats == pytest.approx(math.log(3) + 0.25)
    assert (other.provenance, other.source) == ("measured", "another row")
    mix = dataclasses.replace(multipliers, layers={"down": rows.default})
    predicted = known.loss(mix, Precision(row_bits=12))
    assert predicted.nats == pytest.approx(known.loss(mix).nats + 0.5)
    assert predicted.provenance == "predicted"
    assert known.loss(multipliers, Precision(row_bits=12)) == known.loss(multipliers)
    with pytest.raises(UnknownSchemeError, match=r"rows of 9 bits .* use a row_bits of 12 or"):
        known.loss(rows, Precision(row_bits=9))


def test_narrow_keys_and_values_lose_more():
    """Of a scheme on which they were measured, measured; of others what the first one's add."""
    known = cached(*CACHED, **{"simd-w4a8": 1.1, "rowgen-2bit": 2.0, "rowgen-1.5bit": 3.0})
    multipliers, rows, other = map(load_scheme, ("simd-w4a8", "rowgen-2bit", "rowgen-1.5bit"))
    for scheme, precision, nats, provenance, source in (
            (multipliers, KEYS, math.log(1.1) + 0.03, "measured", "keys"),
            (multipliers, VALUES, math.log(1.1) + 0.01, "measured", "values"),
            (rows, KEYS, math.log(2) + 0.07, "measured", "keys of rowgen"),
            (rows, VALUES, math.log(2) + 0.01, "predicted", "row, and values"),
            (other, KEYS, math.log(3) + 0.03, "predicted", "row, and keys")):
        found = known.loss(scheme, precision)
        assert found.nats == pytest.approx(nats)
        assert (found.provenance, found.source) == (provenance, source)
    # The scheme itself is predicted.
    mix = dataclasses.replace(multipliers, layers={"down": rows.default})
    assert known.loss(mix, KEYS).nats == pytest.approx(known.loss(mix).nats + 0.03)
    assert known.loss(mix, KEYS).provenance == "predicted"
    assert known.loss(multipliers, EXACT) == known.loss(multipliers) == table(
        **{"simd-w4a8": 1.1}).loss(multipliers)


def test_narrow_keys_and_values_together():
    """As they were measured together, else the sum of both, which is a prediction."""
    multipliers, whole = load_scheme("simd-w4a8"), {"simd-w4a8": 1.1}
    apart = cached(*CACHED, **whole).loss(multipliers, BOTH)
    assert apart.nats == pytest.approx(math.log(1.1) + 0.04)
    assert (apart.provenance, apart.source) == ("predicted", "row, and keys, and values")
    together = cached(*CACHED, TOGETHER, **whole).loss(multipliers, BOTH)
    assert together.nats == pytest.approx(math.log(1.1) + 0.05)
    assert (together.provenance, together.source) == ("measured", "keys and values")


def test_rounded_rows_and_narrow_caches_add_up():
    known, rows = cached(*CACHED, **{"rowgen-2bit": 2.0}), load_scheme("rowgen-2bit")
    found = known.loss(rows, Precision(row_bits=12, key_bits=4))
    assert found.nats == pytest.approx(math.log(2) + 0.5 + 0.07)
    assert (found.provenance, found.source) == ("predicted", "narrow row, and keys of rowgen")
    # Without computed rows their bits do not count.
    multipliers = load_scheme("simd-w4a8")
    assert known.loss(multipliers, Precision(row_bits=12, key_bits=4)) == known.loss(
        multipliers, KEYS)
    # What was measured with these rows counts more than what is added for them.
    wide = known.with_whole(rows, Precision(row_bits=12), 8.0, "evaluated")
    again = wide.loss(rows, Precision(row_bits=12, key_bits=4))
    assert again.nats == pytest.approx(math.log(8) + 0.07)
    assert (again.provenance, again.source) == ("predicted", "evaluated, and keys of rowgen")


def test_a_measured_whole_of_the_precision_counts_more():
    known, multipliers = cached(*CACHED, TOGETHER, **{"simd-w4a8": 1.1}), load_scheme("simd-w4a8")
    for precision in (KEYS, VALUES, BOTH):
        after = known.with_whole(multipliers, precision, 1.5, "evaluated")
        found = after.loss(multipliers, precision)
        assert (found.nats, found.provenance, found.source) == (
            math.log(1.5), "measured", "evaluated")
        assert after.pairs == known.pairs
        assert [after.loss(multipliers, other) for other in (EXACT, KEYS, VALUES, BOTH)
                if other != precision] == [known.loss(multipliers, other)
                                           for other in (EXACT, KEYS, VALUES, BOTH)
                                           if other != precision]


def test_unknown_precisions_are_refused():
    """In one line that says what to use; also where only a part is known."""
    multipliers = load_scheme("simd-w4a8")
    for known, precision, said in (
            (table(), KEYS, "keys of 4 bits"), (table(), BOTH, "keys and values of 4 bits"),
            (cached(*CACHED[:1]), VALUES, "values of 4 bits"),
            (cached(*CACHED[:1]), BOTH, "keys and values of 4 bits")):
        with pytest.raises(UnknownSchemeError) as caught:
            known.loss(multipliers, precision)
        assert str(caught.value) == (
            f"{said} were not measured on m; use key_bits 8, value_bits 8")


def test_precisions_say_what_is_not_exact():
    assert EXACT.text == ""
    assert Precision(row_bits=12, key_bits=4).text == "rows of 12 bits, keys of 4 bits"
    assert VALUES.text == "values of 4 bits"
    assert with_precision("simd-w4a8", BOTH) == "simd-w4a8, keys and values of 4 bits"
    assert evaluated({"scheme": "mix", **dataclasses.asdict(EXACT)}) == "mix"


def test_precision_of_a_design():
    hardware = dataclasses.replace(load_hardware("sim"), row_bits=12, value_bits=4)
    assert Precision.of(load_scheme("rowgen-2bit"), hardware) == Precision(
        row_bits=12, value_bits=4)
    assert Precision.of(load_scheme("simd-w4a8"), hardware) == VALUES


def test_a_measured_whole_counts_more():
    found = table(**{"rowgen-2bit": 2.0}).loss(load_scheme("rowgen-2bit"))
    assert (found.nats, found.provenance, found.source) == (math.log(2), "measured", "row")
    part = load_scheme("rowgen-2bit").default
    spelled = dataclasses.replace(load_scheme("simd-w4a8"), layers=dict.fromkeys(
        ("q", "k", "v", "o", "gate", "up", "down"), part))
    assert map_key(spelled) == map_key(load_scheme("rowgen-2bit"))
    others = [dataclasses.replace(spelled, layers={**spelled.layers, key: load_scheme(
        "simd-w4a8").default}) for key in ("down", "3.down")]
    assert len({map_key(scheme) for scheme in (spelled, *others)}) == 3


def test_sums_are_read_off_at_the_whole_models():
    pairs = ((0.1, 0.08), (1.0, 0.5), (0.3, 0.3))
    assert curve((), 0.7) == 0.7
    assert [curve(pairs, x) for x, _ in pairs] == pytest.approx([y for _, y in pairs])
    assert curve(pairs, 0.0) == 0
    assert curve(pairs, 0.05) == pytest.approx(0.04)
    assert curve(pairs, 0.65) == pytest.approx(0.4)
    assert curve(pairs, 4.0) == pytest.approx(2.0)
    # Whole models whose order is the other way round take their mean.
    assert curve((*pairs, (0.4, 0.2)), 0.35) == pytest.approx(0.25)
    assert curve(((0.2, 0.1), (0.2, 0.3)), 0.2) == pytest.approx(0.2)


@given(pairs=st.lists(st.tuples(st.floats(0, 20), st.floats(-1, 20)), max_size=8),
       totals=st.tuples(st.floats(0, 50), st.floats(0, 50)))
@example(pairs=[(2.2e-311, 16.0), (1.2e-38, 0.0005)], totals=(4.2, 2.2e-313))
@example(pairs=[(1e-300, 5.0), (0.1, 20.0)], totals=(0.0, 1e-301))
def test_a_larger_sum_is_never_a_smaller_loss(pairs, totals):
    """Whatever was measured, also less than float loses."""
    low, high = sorted(totals)
    assert 0 <= curve(tuple(pairs), low) <= curve(tuple(pairs), high) * (1 + 1e-9)


def test_noise_of_good_schemes_is_not_scaled_up():
    assert curve(((0.0004, 0.006),), 0.03) == pytest.approx(0.006 + 0.0296)
    assert curve(((0.03, -0.014),), 0.01) == 0
    assert curve(((0.0, -0.002),), 0.01) == pytest.approx(0.01)


def test_evaluations_better_predictions():
    known, rows = table(), load_scheme("rowgen-2bit")
    before = known.loss(rows).nats
    mix = dataclasses.replace(rows, layers={"down": load_scheme("simd-w4a8").default})
    assert known.loss(mix).nats == known.sum_of(mix)
    after = known.with_whole(rows, EXACT, math.exp(before / 2), "row")
    assert after.loss(mix).nats == pytest.approx(known.sum_of(mix) / 2)
    assert after.loss(mix).source == "made up, and 1 whole models"
    # Rounded rows and schemes of which nothing is known say nothing of the sums.
    assert known.with_whole(rows, Precision(row_bits=12), 4.0, "row").pairs == ()
    assert known.with_whole(load_scheme("lut2d"), EXACT, 4.0, "row").pairs == ()


def test_options_of_a_whole_model_have_no_sum():
    known = table(**{"simd-w4a4-agile": 1.2})
    agile = load_scheme("simd-w4a4-agile")
    assert known.loss(agile).provenance == "measured"
    other = dataclasses.replace(agile, token_rule=dataclasses.replace(agile.token_rule, int4=0.7))
    with pytest.raises(UnknownSchemeError, match="what token_rule does to m is known of shipped"):
        known.loss(other)


def test_unknown_model():
    with pytest.raises(ConfigError, match=r"accuracy: gpt: no such model; .*are known of smollm2"):
        load_sensitivities("gpt")


def test_shipped_sensitivities():
    known = load_sensitivities("smollm2-135m")
    assert known.layers == 30
    for losses in known.losses.values():
        assert all(len(values) == 30 for values in losses.values())
        assert all(value >= 0 for values in losses.values() for value in values)
    loss = {name: known.loss(load_scheme(name)) for name in (
        "simd-w8a8", "simd-w4a8", "rowgen-4bit", "rowgen-3bit", "rowgen-2bit", "lut2d")}
    assert [row.nats for row in loss.values()] == sorted(row.nats for row in loss.values())
    assert {row.provenance for row in loss.values()} == {"measured"}
    assert len(known.pairs) >= 5


def test_left_out_whole_models_are_predicted():
    """A shipped whole model between others, from its linears: what predictions are worth."""
    pairs = load_sensitivities("smollm2-135m").pairs
    # Beyond 5 nats, which is no language any more, nothing is told from anything.
    inside = sorted(pair for pair in pairs if pair[1] < 5)[1:]
    assert len(inside) >= 3
    for pair in inside:
        others = tuple(other for other in pairs if other != pair)
        assert curve(others, pair[0]) == pytest.approx(pair[1], rel=0.25)


def test_rows_on_narrow_caches_become_what_they_add(tmp_path, monkeypatch):
    file = tmp_path / "accuracy.json"
    file.write_text(json.dumps({"rows": {
        "rowgen-2bit": {"relative": 1.0}, "rowgen-2bit, keys of 4 bits": {"relative": 1.2},
        "simd-w4a8": {"relative": 0.1}, "simd-w4a8, keys of 4 bits": {"relative": 0.2},
        "simd-w4a8, values of 4 bits": {}, "simd-w4a8, keys and values of 4 bits": {
            "relative": 0.3}}}))
    monkeypatch.setattr(sensitivity, "ACCURACY", file)
    rows = sensitivity.cache_rows()
    assert [(row["key_bits"], row["value_bits"], row["source"]) for row in rows] == [
        (4, 8, f"{file}, row simd-w4a8, keys of 4 bits"),
        (4, 4, f"{file}, row simd-w4a8, keys and values of 4 bits"),
        (4, 8, f"{file}, row rowgen-2bit, keys of 4 bits")]
    known = table({"schemes": [], "cache": rows}, **{"simd-w4a8": 1.1, "rowgen-2bit": 2.0})
    for name, precision, ratio in (("simd-w4a8", KEYS, 1.2), ("simd-w4a8", BOTH, 1.3),
                                   ("rowgen-2bit", KEYS, 2.2)):
        found = known.loss(load_scheme(name), precision)
        assert found.nats == pytest.approx(math.log(ratio))
        assert found.provenance == "measured"
    # Of others what the first scheme's add.
    assert known.loss(load_scheme("rowgen-2bit"), BOTH).nats == pytest.approx(
        math.log(2.0 * 1.3 / 1.1))
