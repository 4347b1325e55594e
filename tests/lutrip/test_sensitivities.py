"""Sensitivities of the user's own: schemes kept apart, files checked."""

from __future__ import annotations

import dataclasses
import json

import pytest

from compiler.quant.scheme import load_scheme
from compiler.text import DEFAULT_PROMPT
from hw.errors import LutripError
from lutrip.sensitivities import SENSITIVITY_FILE, measure_missing, own_file, scheme_rows
from reports.explore.accuracy import scheme_key
from tests.reports.explore.studies import small


def test_schemes_of_one_name_are_measured_apart(tmp_path, monkeypatch):
    """`scheme.FIELD` parameters change a scheme and leave its name."""
    text = tmp_path / "text.txt"
    text.write_text(f"{DEFAULT_PROMPT}\n" * 2)
    part = load_scheme("simd-w4a8-g64-nearest").default
    coarse = dataclasses.replace(part, group=128)
    monkeypatch.setattr("lutrip.sensitivities.measure", lambda question, *_: question.candidates)
    monkeypatch.setattr("lutrip.sensitivities.predicted_losses", lambda measured, _: {
        ((layer, "q"), key): float(scheme.group + layer)
        for layer in range(2) for key, scheme in measured.items()})
    fine, rough = scheme_rows("shape:tiny", [part, coarse], tmp_path / "work", text=str(text))
    assert fine["name"] == rough["name"]
    assert (fine["key"], rough["key"]) == (scheme_key(part), scheme_key(coarse))
    assert (fine["losses"], rough["losses"]) == ({"q": [64, 65]}, {"q": [128, 129]})


def test_more_schemes_leave_what_is_known_of_caches(tmp_path, monkeypatch):
    study = small(tmp_path, ("hardware: tiny", "hardware: tiny\naccuracy: shape:tiny"))
    cache = [{"key_bits": 4, "value_bits": 8, "key": "any", "nats": 0.1, "source": "own"}]
    path = tmp_path / SENSITIVITY_FILE
    path.write_text(json.dumps({"schemes": [{"name": "old"}], "cache": cache}))
    monkeypatch.setattr("lutrip.sensitivities.scheme_rows", lambda *_: [{"name": "new"}])
    measure_missing(study, [load_scheme("simd-w4a8").default], tmp_path, print)
    found = json.loads(path.read_text())
    assert [row["name"] for row in found["schemes"]] == ["old", "new"]
    assert found["cache"] == cache
    assert found["model"] == "shape:tiny"


def test_damaged_files(tmp_path):
    study = small(tmp_path, ("hardware: tiny", "hardware: tiny\naccuracy: shape:tiny"))
    assert own_file(study, tmp_path) is None
    for damage in ("{", "[]", "{}"):
        (tmp_path / SENSITIVITY_FILE).write_text(damage)
        with pytest.raises(LutripError, match=r"sensitivity\.json: damaged; remove it"):
            own_file(study, tmp_path)
    (tmp_path / SENSITIVITY_FILE).write_text('{"model": "other", "schemes": [{}]}')
    with pytest.raises(LutripError, match="holds sensitivities of model other, the study has shap"):
        own_file(study, tmp_path)
