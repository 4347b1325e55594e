"""Study files: what they mean, and that each mistake is named with its line and column."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator

from compiler.own_blocks import named_model
from hw.errors import ConfigError, LutripError
from hw.presets import names
from reports.explore.metrics import METRICS
from reports.explore.named import LOADERS
from reports.explore.schema import study_schema
from reports.explore.space import (
    Design,
    check_space,
    design_of,
    every_scheme,
    point_of,
    values_of,
)
from reports.explore.study import Bound, load_study
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
def test_shipped_studies(name, monkeypatch):
    study = load_study(name)
    # Models are checked by their own tests, and the packaged one need not be here.
    monkeypatch.setitem(LOADERS, "model", lambda name: None)
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
     "no device called 'ecp6'; known: v80, u280, kv260, ecp5-85"),
    ("hardware: tiny", "hardware: tinny", "did you mean tiny?"),
    ("scheme: simd-w4a8-tiny", "scheme: simd", "no schemes configuration called 'simd'"),
])
def test_wrong_names(tmp_path, old, new, said):
    study = small(tmp_path, (old, new))
    with pytest.raises(LutripError) as error:
        check_space(study)
    assert said in str(error.value)


RANGE = "{from: 50, to: 200, factor: 2}"
CLOCK = f"hardware.clock_mhz: {RANGE}"
MEMORY = "memory: [ideal, ddr4-kv260]"
PRICE = ("energy_per_token_j, lut]", "price]")


@pytest.mark.parametrize(("changes", "place", "said"), [
    ([PRICE, ("search:", "prices: {u280: 9}\nsearch:")], "17:1", "the price of kv260 is missing"),
    ([PRICE, (MEMORY, "hardware.device: [v80]"), ("search:", "prices: {kv260: 9}\nsearch:")],
     "17:1", "the price of v80 is missing"),
    ([PRICE, (MEMORY, "hardware: [tiny, sim]"), ("search:", "prices: {kv260: 9}\nsearch:")],
     "17:1", "the price of u280 is missing"),
    ([("hardware.clock_mhz", "1")], "11:3", "the key '1' is no text"),
    ([("hardware.clock_mhz", "true")], "11:3", "the key 'true' is no text"),
    ([("hardware.clock_mhz", "null")], "11:3", "the key 'null' is no text"),
    ([("hardware.clock_mhz", "[1]")], "11:3", "the key is no text"),
    ([("title: small", "5: small")], "1:1", "the key '5' is no text"),
    ([(RANGE, "{a: {1: 8}}")], "11:28", "the key '1' is no text"),
    ([("from: 50", "from: 0")], "11:30", "must begin above 0 to grow by a factor, not at 0"),
    ([("from: 50", "from: -5")], "11:30", "must begin above 0 to grow by a factor, not at -5"),
    ([("from: 50", "from: .nan")], "11:30", "must be a finite number"),
    ([("to: 200", "to: .inf")], "11:38", "must be a finite number"),
    ([("to: 200", f"to: 1{'0' * 400}")], "11:38", "must be a finite number"),
    ([("to: 200, factor: 2", "to: 1000000000")], "11:38", "has more than 10,000 values"),
    ([("factor: 2", "factor: 1.0000001")], "11:38", "has more than 10,000 values"),
    ([("from: 50, to: 200", "from: 1.0e-300, to: 1.0e+300")], "11:44", "more than 10,000 values"),
    ([("factor: 2", "factor: 2, step: 1")], "11:51", "has a step and a factor; leave one out"),
    ([("to: 200", "to: 1e9")], "11:38", "'1e9' is not of type 'number'; write 1.0e+9"),
    ([(RANGE, "[1e9]")], "11:3", "hardware.clock_mhz must be float, not '1e9'; write 1.0e+9"),
    ([(RANGE, "[100, 100.0]")], "11:23", "parameter hardware.clock_mhz has a value twice"),
    ([(RANGE, "[.nan]")], "11:24", "must be a finite number"),
    ([("weight: 3", "weight: .nan")], "5:50", "must be a finite number"),
    ([("weight: 3", "weight: .inf")], "5:50", "must be a finite number"),
    ([("max: 8", "max: .nan")], "15:16", "must be a finite number"),
    ([("prefill: 6", "prefill: 6.0")], "5:28", "6.0 is not of type 'integer'"),
    ([("batch: 8", "seed: 4294967296")], "17:16", "greater than the maximum of 4294967295"),
    ([("title: small", "title: &x [*x]")], "1:12", "*x stands for a value that it is a part of"),
    ([("title: small", f"title: {'[' * 3000}")], "1:27", "more than 20 mappings and lists"),
    ([("title: small", "title: 2026-13-45")], "1:1", "a number or date that is none"),
    ([(MEMORY, "scheme.sparsity: [abc]")], "13:3", "must be from 0 to 0.95, not 'abc'"),
    ([(MEMORY, "scheme.sparsity: [2]")], "13:3", "must be from 0 to 0.95, not 2"),
    ([(MEMORY, "scheme.method: [xx]")], "13:3", "scheme.method must be one of clipped, "),
    ([(MEMORY, "scheme.seed: [abc]")], "13:3", "must be a whole number from 0, not 'abc'"),
    ([(MEMORY, "scheme.seed: [-1]")], "13:3", "must be a whole number from 0, not -1"),
    ([(MEMORY, "scheme.trip_max: [true]")], "13:3", "must be one of 0, 1, 2, 3, 4, not True"),
    ([(MEMORY, "scheme.trip_max: [2.0]")], "13:3", "must be one of 0, 1, 2, 3, 4, not 2.0"),
    ([(MEMORY, "scheme.gather: [1]")], "13:3", "scheme.gather must be true or false, not 1"),
    ([(MEMORY, "scheme.act_codes: [16]")], "13:3", "scheme.act_codes changes nothing: "),
    ([("hardware: tiny", "hardware: tinny")], "7:11", "did you mean tiny?"),
    ([("scheme: simd-w4a8-tiny", "scheme: simd")], "8:9", "no schemes configuration"),
    ([("hardware: tiny", "hardware: tiny\nmemory: ddr5")], "8:9", "no memory configuration"),
    ([("model: shape:tiny", "model: shape:tinny")], "3:8", "unknown shape"),
    ([("model: shape:tiny", "model: tiny")], "3:8", "tiny: no such model"),
    ([("hardware: tiny", "hardware: tiny\naccuracy: gpt")], "8:11", "accuracy: gpt: no such model"),
    ([(CLOCK, "'hardware.lanes,': [8]")], "11:3", "a comma in the parameter's name has no target"),
    ([("rowgen-2bit]", "mix-lut-simd]")], "12:3", "scheme.mlp cannot be mix-lut-simd: it is a mix"),
    ([("rowgen-2bit]", "simd-w4a4-agile]")], "12:3", "scheme.mlp cannot be simd-w4a4-agile"),
])
def test_mistakes_are_told_in_a_line(tmp_path, changes, place, said):
    with pytest.raises(ConfigError) as error:
        check_space(small(tmp_path, *changes))
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'small.yaml'}:{place}: ")
    assert said in message
    assert "\n" not in message


def test_a_missing_model_is_told_at_its_key(tmp_path, monkeypatch):
    monkeypatch.setattr("compiler.frontends.packaged._installed", lambda packaged: None)
    monkeypatch.setenv("LUTRIP_CACHE", str(tmp_path / "none"))
    named_model.cache_clear()
    study = small(tmp_path, ("model: shape:tiny", "model: smollm2-135m"))
    with pytest.raises(ConfigError, match=r"small\.yaml:3:8: model smollm2-135m is not here: run"):
        check_space(study)


@pytest.mark.parametrize(("model", "text", "said"), [
    ("smollm2-135m", "wikipedia", "losses of smollm2-135m are known on news"),
    ("shape:tiny", "builtin", "builtin is what calibrates"),
    ("shape:tiny", "nws", "nws: no such text; give news"),
])
def test_texts_that_cannot_be_evaluated(tmp_path, packaged_model, model, text, said):
    study = small(tmp_path, ("hardware: tiny", "hardware: tiny\naccuracy: " + model),
                  ("search:", f"evaluate: {{text: {text}}}\nsearch:"))
    with pytest.raises(ConfigError, match=rf"small\.yaml:\d+:18: {said}"):
        check_space(study)


def test_evaluation_needs_a_model(tmp_path):
    with pytest.raises(ConfigError, match=r":1\d:1: evaluate needs the key accuracy"):
        small(tmp_path, ("search:", "evaluate: {schemes: 1}\nsearch:"))
    with pytest.raises(ConfigError, match="unknown key 'scheme'; did you mean schemes"):
        small(tmp_path, ("search:", "evaluate: {scheme: 1}\nsearch:"))


def test_schemes_that_are_too_many_to_list(tmp_path):
    keys = "".join(f"  scheme.{layer}.down: [simd-w4a8-tiny, simd-w8a8-tiny]\n"
                   for layer in range(40))
    study = small(tmp_path, ("  memory:", f"{keys}  memory:"))
    check_space(study)
    with pytest.raises(ConfigError, match=r":9:1: [0-9,]+ combinations of schemes are too many"):
        every_scheme(study)
    assert len(every_scheme(small(tmp_path))) == 2 * 3


def test_impossible_fields_make_no_scheme(tmp_path):
    study = small(tmp_path, (MEMORY, "scheme.act_bits: [4, 8]"))
    check_space(study)
    with pytest.raises(ConfigError, match="int8 weights need act_bits 8"):
        design_of((1, 0, 0, 0), study)
    assert {scheme.default.act_bits for scheme in every_scheme(study)} == {4, 8}
    other = small(tmp_path, (MEMORY, "scheme.method: [gptvq]"))
    with pytest.raises(ConfigError, match="kind simd has no method gptvq"):
        design_of((0, 0, 0, 0), other)


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
