"""Study files: what they mean, and that each mistake is named with its line and column."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator

from hw.errors import ConfigError, LutripError
from hw.presets import names
from reports.explore.metrics import METRICS
from reports.explore.space import Design, check_space, design_of, point_of, values_of
from reports.explore.study import Bound, load_study, study_schema
from sim.memory_presets import default_memory
from tests.reports.explore.studies import TEXT, small, write


def test_values(tmp_path):
    study = small(tmp_path)
    assert study.name == "small"
    assert study.title == "small"
    assert study.space == 2 * 3 * 3 * 2
    assert study.exhaustive
    assert study.budget == 36
    assert study.parameters[1].values == (50, 100, 200)
    assert [(row.name, row.weight) for row in study.workloads] == [("short", 3), ("12 + 2", 1)]
    assert study.choose == "time_per_token_s"
    assert study.bounds == (Bound(metric="ports", high=8),)


def test_ranges(tmp_path):
    study = small(tmp_path, ("{from: 50, to: 200, factor: 2}", "{from: 100, to: 200, step: 30}"))
    assert study.parameters[1].values == (100, 130, 160, 190)


def test_large_spaces_are_sampled(tmp_path):
    study = small(tmp_path, ("{from: 50, to: 200, factor: 2}", "{from: 1, to: 5000}"))
    assert not study.exhaustive
    assert study.budget == 2000
    few = small(tmp_path, ("batch: 8", "batch: 8, points: 30"))
    assert not few.exhaustive
    assert few.budget == 30


@pytest.mark.parametrize("name", names("studies"))
def test_shipped_studies(name):
    study = load_study(name)
    check_space(study)
    assert study.question
    assert study.text.startswith("# yaml-language-server: $schema=../schema/study.schema.json")
    for index in (0, study.space - 1):
        point = point_of(index, study)
        assert len(values_of(point, study)) == len(study.parameters)


def test_schema_is_one_and_knows_all_metrics():
    schema = study_schema()
    Draft202012Validator.check_schema(schema)
    properties = schema["properties"]
    for known in (properties["objectives"]["items"]["enum"], properties["choose"]["enum"],
                  properties["constraints"]["propertyNames"]["enum"]):
        assert known == list(METRICS)


@pytest.mark.parametrize(("old", "new", "place", "said"), [
    ("objectives:", "objective:", "16:1", "unknown key 'objective'; did you mean objectives?"),
    ("model: shape:tiny\n", "", "1:1", "the study needs the key 'model'"),
    ("[time_per_token_s,", "[time_per_tokens,", "16:14",
     "did you mean time_per_token_s?"),
    ("prefill: 6", "prefill: six", "5:28", "'six' is not of type 'integer'"),
    ("prefill: 6", "prefil: 6", "5:19", "unknown key 'prefil'; did you mean prefill?"),
    ("decode: 2}", "decode: 0}", "6:27", "0 is less than the minimum of 1"),
    ("ports: {max: 8}", "ports: {max: 8, min: 9}", "15:10",
     "no memory ports is at least 9 and at most 8"),
    ("ports: {max: 8}", "port: {max: 8}", "15:3", "'port' is none of"),
    ("[ideal, ddr4-kv260]", "[ideal, ideal]", "13:11", "parameter memory has a value twice"),
    ("{from: 50, to: 200, factor: 2}", "{from: 50, to: 4}", "11:38",
     "parameter hardware.clock_mhz ends at 4, below its begin 50"),
    ("title: small", "title: small\ntitle: other", "2:1", "key title is written twice"),
    ("title: small", "title: [small", "2:9", "expected ',' or ']'"),
    ("ports: {max: 8}", "loss_nats: {max: 8}", "15:14", "loss_nats needs the key accuracy"),
    ("energy_per_token_j, lut]", "price]", "16:13", "price needs the key prices"),
    ("search:", "references: [a1000]\nsearch:", "17:13", "no GPU or published design called"),
])
def test_errors_name_line_and_column(tmp_path, old, new, place, said):
    with pytest.raises(ConfigError) as error:
        small(tmp_path, (old, new))
    message = str(error.value)
    assert f"small.yaml:{place}: " in message
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize(("old", "new", "said"), [
    ("hardware.clock_mhz", "hardware.clock", "hardware.clock sets nothing"),
    ("scheme.mlp", "scheme.mlq", "scheme.mlq is neither a field of a scheme nor linears"),
    ("memory: [ideal, ddr4-kv260]", "memory: [ideal, ddr5]", "no memory configuration called"),
    ("memory: [ideal, ddr4-kv260]", "softmax: [int8, log3]", "softmax must be int8 or log2"),
    ("memory: [ideal, ddr4-kv260]", "memory: [1, 2]", "memory takes names or files, not 1"),
    ("memory: [ideal, ddr4-kv260]", "scheme.weight_bits: [4, 5]", "must be one of 4, 8, not 5"),
    ("{from: 50, to: 200, factor: 2}", "[100, fast]", "hardware.clock_mhz must be float"),
    ("hardware.clock_mhz: {from: 50, to: 200, factor: 2}", "hardware.rowgen: [1]",
     "hardware.rowgen must be bool, not 1"),
    ("hardware.clock_mhz: {from: 50, to: 200, factor: 2}", "hardware.device: [ecp6]",
     "unknown key 'ecp6'"),
    ("hardware: tiny", "hardware: tinny", "did you mean tiny?"),
    ("scheme: simd-w4a8-tiny", "scheme: simd", "no schemes configuration called 'simd'"),
])
def test_wrong_names(tmp_path, old, new, said):
    study = small(tmp_path, (old, new))
    with pytest.raises(LutripError) as error:
        check_space(study)
    assert said in str(error.value)


def test_missing_and_unreadable_files(tmp_path):
    for name, said in ((str(tmp_path / "no.yaml"), "No such file"),
                       ("v80-lutlm", "no studies configuration called"),
                       (str(write(tmp_path, "- 1\n")), "1:1: must be a YAML mapping"),
                       (str(write(tmp_path, "")), "1:1: must be a YAML mapping")):
        with pytest.raises(ConfigError, match=said):
            load_study(name)
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"title: \xe9\n")
    with pytest.raises(ConfigError, match="not text in UTF-8"):
        load_study(str(path))


def designs(folder, parameters: str) -> list[Design]:
    begin = TEXT.index("  scheme.attention")
    end = TEXT.index("constraints:")
    study = small(folder, (TEXT[begin:end], parameters))
    check_space(study)
    return [design_of(point_of(index, study), study) for index in range(study.space)]


def test_targets(tmp_path):
    slow, fast = designs(tmp_path, "  hardware.clock_mhz: [100, 150]\n")
    assert (slow.hardware.clock_mhz, fast.hardware.clock_mhz) == (100, 150)
    assert slow.hardware.name == "tiny"
    first, second = designs(tmp_path, "  hardware: [tiny, sim]\n")
    assert (first.hardware.name, second.hardware.name) == ("tiny", "sim")
    assert first.memory == default_memory(first.hardware)
    assert second.memory.name == "hbm2-u280"
    one, two = designs(
        tmp_path, "  'hardware.tokens_max, hardware.read_fifo_words': [16, 32]\n")
    assert (one.hardware.tokens_max, one.hardware.read_fifo_words) == (16, 16)
    assert (two.hardware.tokens_max, two.hardware.read_fifo_words) == (32, 32)


def test_schemes(tmp_path):
    plain, mixed = designs(tmp_path, "  scheme.attention+down: [simd-w4a8-tiny, rowgen-2bit]\n")
    assert {key: part.name for key, part in mixed.scheme.layers.items()} == dict.fromkeys(
        ("q", "k", "v", "o", "down"), "rowgen-2bit")
    assert mixed.scheme.of("gate", 0).name == "simd-w4a8-tiny"
    assert plain.scheme.of("q", 1).name == "simd-w4a8-tiny"
    few, many = designs(tmp_path, "  scheme.trip_max: [0, 4]\n")
    assert (few.scheme.default.trip_max, many.scheme.default.trip_max) == (0, 4)
    narrow, = designs(tmp_path, "  scheme: [lut2d]\n  scheme.act_codes: [16]\n"
                                "  scheme.trip_max: [0]\n")
    assert narrow.scheme.default.act_codes == 16
    whole, halved = designs(tmp_path, "  softmax: [int8, log2]\n")
    assert (whole.scheme.softmax, halved.scheme.softmax) == ("int8", "log2")


def test_named_settings(tmp_path):
    narrow, wide = designs(tmp_path, """\
  vectors:
    pairs: {scheme: rowgen-2bit, hardware.vector_length: 2}
    fours: {scheme: simd-w4a8-tiny, hardware.vector_length: 4}
""")
    assert (narrow.scheme.name, narrow.hardware.vector_length) == ("rowgen-2bit", 2)
    assert (wide.scheme.name, wide.hardware.vector_length) == ("simd-w4a8-tiny", 4)
    with pytest.raises(ConfigError, match=r"10:3: hardware\.vector sets nothing"):
        designs(tmp_path, "  vectors:\n    pairs: {hardware.vector: 2}\n")


def test_bounds():
    bound = Bound(metric="lut", low=10, high=20)
    assert [bound.violation(value) for value in (5, 10, 15, 20, 30)] == [0.5, 0, 0, 0, 0.5]
    assert bound.text() == "LUTs at least 10 and at most 20"
    assert Bound(metric="loss_nats", high=0).violation(2.5) == 2.5


def test_schema_file_is_plain_json():
    assert json.loads(json.dumps(study_schema())) == study_schema()
