"""Training-based refinement: torch's layers against the float reference, gradients by hand."""

import dataclasses
import importlib.util

import numpy as np
import pytest

from compiler.decoder import heads
from compiler.errors import CompileError
from compiler.forward import forward
from compiler.frontends.shapes import SHAPES
from compiler.quant.kmeans import kmeans
from compiler.quant.weights import GroupedWeights, VectorWeights
from compiler.refine.refine import refine
from compiler.refine.settings import RefineSettings
from tests.compiler.checkpoints import model_of, random_weights

SMALL = dataclasses.replace(SHAPES["tiny"], layers=2, width=32, heads=4, kv_heads=2, head_width=8,
                            ffn_width=48, vocabulary=40, context=64)
MODELS = {
    "llama": {}, "window": {"window": 5}, "tied": {"tied_embeddings": True},
    "qwen2": {"family": "qwen2", "qkv_bias": True},
    "qwen3": {"family": "qwen3", "qk_norm": True},
    "partial": {"rotary_width": 4}, "rotated": {"hidden_rotation": 16},
    "opt": {"family": "opt", "position": "learned", "position_offset": 2, "norm": "layer",
            "activation": "relu", "gated": False, "linear_bias": True, "kv_heads": 4},
    "bloom": {"family": "bloom", "position": "alibi", "norm": "layer", "gated": False,
              "activation": "gelu_tanh", "embedding_norm": True, "kv_heads": 4},
}
WINDOWS = np.random.default_rng(5).integers(0, 40, (4, 24))
PLAIN = {"device": "cpu", "precision": "float32"}


def small_model(**options):
    """A model of random weights, small enough that logits are not decided."""
    architecture = dataclasses.replace(SMALL, **options)
    return model_of(architecture, random_weights(architecture))


def vector_weights(weight, group_columns=16, codes=8):
    """Codebooks of one group of columns each by k-means."""
    columns, inputs = weight.shape
    vectors = np.pad(weight, ((0, 0), (0, inputs % 2))).reshape(columns, -1, 2).swapaxes(0, 1)
    groups = range(0, columns, group_columns)
    made = [kmeans(vectors[:, at:at + group_columns], codes) for at in groups]
    books = np.stack([part for part, _ in made], axis=1)
    scale = float(np.abs(books).max()) / 127
    return VectorWeights(
        codebooks=np.round(books / scale).astype(np.int8),
        indices=np.concatenate([part for _, part in made], axis=1),
        scales=np.full(columns, scale, np.float32), group_columns=group_columns, inputs=inputs)


def grouped_weights(weight, group=16):
    """4-bit codes with minima."""
    filled = np.pad(weight, ((0, 0), (0, -weight.shape[1] % group)))
    parts = filled.reshape(len(weight), -1, group)
    scales = np.maximum(parts.max(axis=2) - parts.min(axis=2), 1e-6) / 15
    minima = parts.min(axis=2) + 8 * scales
    codes = np.round((parts - minima[..., None]) / scales[..., None])
    return GroupedWeights(codes=codes.astype(np.int8).reshape(filled.shape),
                          scales=scales.astype(np.float32), minima=minima.astype(np.float32),
                          inputs=weight.shape[1])


def quantized(model, make=vector_weights):
    """Quantized weights of all linears."""
    return {(layer, name): make(model.tensor(f"layers.{layer}.{name}.weight"))
            for layer in range(model.architecture.layers) for name in model.architecture.linears}


def with_weights(model, weights):
    """The float model with other weights."""
    tensors = {name: stored.read(slice(None)) for name, stored in model.tensors.items()}
    for (layer, name), made in weights.items():
        tensors[f"layers.{layer}.{name}.weight"] = made.dense()
    return model_of(model.architecture, tensors)


def logarithms(model):
    """Log probabilities of all windows."""
    logits = np.concatenate([forward(model, window) for window in WINDOWS]).astype(np.float64)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def divergence(model, weights):
    """Mean KL divergence of a quantized model."""
    exact, made = logarithms(model), logarithms(with_weights(model, weights))
    return float((np.exp(exact) * (exact - made)).sum(axis=1).mean())


@pytest.fixture(scope="module")
def torch():
    """The optional library."""
    return pytest.importorskip("torch", reason="needs the optional packages: .[reference]")


def decoder_of(model, weights, settings, rows=None, columns=None):
    """The trained form of a model."""
    from compiler.refine.distill import TrainedDecoder
    from compiler.refine.stages import device_of
    from compiler.refine.torch_layer import TorchLayer

    parts = TorchLayer(model.architecture, 24, device_of(settings))
    return TrainedDecoder(model, weights, rows or {}, columns or {}, parts, settings)


def hidden(torch, decoder, model):
    """Input of the head on the first two windows, side by side."""
    from compiler.float_layer import embed

    x = torch.tensor(np.stack([embed(model, window) for window in WINDOWS[:2]]))
    with torch.no_grad():
        return decoder(x).numpy()


@pytest.mark.parametrize("name", MODELS)
def test_float_layers(torch, name):
    model = small_model(**MODELS[name])
    made = hidden(torch, decoder_of(model, {}, RefineSettings(**PLAIN)), model)
    for window, found in zip(WINDOWS, made, strict=False):
        expected = forward(model, window)
        error = np.abs(found @ model.tensor("head").T - expected).max()
        assert error < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("make", [vector_weights, grouped_weights])
@pytest.mark.parametrize("recompute", [False, True])
def test_rows_of_the_hardware(torch, make, recompute):
    """Heads filled up to 12 places, q and k with rotary pairs side by side."""
    model = small_model(head_width=8)
    architecture = model.architecture
    rotary, plain = (heads.element_order(architecture, 12, rotary=part) for part in (True, False))
    rows = {"q": heads.head_rows(rotary, 4, 8), "k": heads.head_rows(rotary, 2, 8),
            "v": heads.head_rows(plain, 2, 8), "gate": np.arange(48)[::-1]}
    columns = {"o": heads.head_rows(plain, 4, 8)}
    weights, dense = {}, {}
    for layer in range(2):
        for name in architecture.linears:
            weight = model.tensor(f"layers.{layer}.{name}.weight")
            placed = heads.take(weight, rows.get(name, np.arange(len(weight))))
            if name in columns:
                placed = heads.take(placed.T, columns[name]).T
            made = make(placed)
            weights[layer, name] = made
            place = {int(row): at for at, row in enumerate(rows.get(name, range(len(weight))))}
            back = made.dense()[[place[row] for row in range(len(weight))]]
            if name in columns:
                back = back[:, columns[name] >= 0]
            dense[f"layers.{layer}.{name}.weight"] = back
    tensors = {name: stored.read(slice(None)) for name, stored in model.tensors.items()}
    expected = forward(model_of(architecture, tensors | dense), WINDOWS[1])
    settings = RefineSettings(recompute=recompute, **PLAIN)
    decoder = decoder_of(model, weights, settings, rows, columns)
    found = hidden(torch, decoder, model)[1] @ model.tensor("head").T
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    for key, made in decoder.made().items():
        np.testing.assert_array_equal(made.dense(), weights[key].dense())


def test_gradient_by_hand(torch):
    """Two columns choose entries 1 and 0 of position 0, both entry 1 of position 1."""
    from compiler.refine.parameters import VectorParameters

    books = np.array([[[[10, 20], [30, 40]]], [[[50, 60], [-128, 80]]]], np.int16)
    weights = VectorWeights(
        codebooks=books.clip(-127).astype(np.int8), indices=np.array([[1, 0], [1, 1]], np.uint8),
        scales=np.array([0.5, 2], np.float32), group_columns=2, inputs=3)
    made = VectorParameters(weights, torch.device("cpu"), moving=True)
    x = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    y = made(x)
    # The last input does not exist: 30 + 2 * 40 - 3 * 127 and 10 + 2 * 20 - 3 * 127.
    np.testing.assert_allclose(y.detach(), [[0.5 * -271, 2 * -331]])
    y.sum().backward()
    np.testing.assert_allclose(x.grad, [[0.5 * 30 + 2 * 10, 0.5 * 40 + 2 * 20, 2.5 * -127]])
    unit = float(made.sizes[0])
    np.testing.assert_allclose(
        made.entries.grad / unit,
        [[[2, 0.5], [4, 1]], [[0, 7.5], [0, 0]]], rtol=1e-5)
    np.testing.assert_allclose(
        made.goal.grad / unit, [[[0.5, 2], [1, 4]], [[1.5, 6], [0, 0]]], rtol=1e-5)
    np.testing.assert_allclose(made.factors.grad, [0.5 * -271, 2 * -331])
    assert made.made().dense().tolist() == weights.dense().tolist()


def test_moving_indices_by_hand(torch):
    from compiler.refine.parameters import VectorParameters

    weights = VectorWeights(
        codebooks=np.array([[[[10], [30]], [[0], [60]]]], np.int8),
        indices=np.array([[0, 1, 0]], np.uint8), scales=np.ones(3, np.float32), group_columns=2,
        inputs=1)
    made = VectorParameters(weights, torch.device("cpu"), moving=True)
    with torch.no_grad():
        made.goal += torch.tensor([11.0, -9.0, 29.0]) / made.unit
    made.choose()
    assert made.made().indices.tolist() == [[1, 1, 0]]


def test_entries_fit_the_circuit(torch):
    """Four elements of 127 are more than a row's entry can hold."""
    from compiler.ir.matmul import CENTROID_SUM_MAX
    from compiler.refine.parameters import VectorParameters

    weights = VectorWeights(
        codebooks=np.array([[[[60, 60, 60, -60], [1, 2, 3, 4]]]], np.int8),
        indices=np.array([[0, 1]], np.uint8), scales=np.ones(2, np.float32), group_columns=2,
        inputs=4)
    made = VectorParameters(weights, torch.device("cpu"), moving=False)
    with torch.no_grad():
        made.entries *= 3
    books = made.made().codebooks[0, 0].astype(int)
    assert books[1].tolist() == [3, 6, 9, 12]
    assert CENTROID_SUM_MAX - 4 <= np.abs(books[0]).sum() <= CENTROID_SUM_MAX
    assert np.abs(books).max() <= 127


@pytest.mark.parametrize(("stage", "make", "options"), [
    ("blockwise", vector_weights, {}), ("blockwise", grouped_weights, {}),
    ("distill", vector_weights, {"index_rate": 0.3}), ("distill", grouped_weights, {}),
    ("distill", vector_weights, {"norms": True, "recompute": True, "precision": "bfloat16"}),
])
def test_refinement_helps(torch, stage, make, options):
    model = small_model()
    before = quantized(model, make)
    epochs = {"blockwise_epochs": 0, "distill_epochs": 0, f"{stage}_epochs": 8}
    rates = {"distill_rate": 1e-2, "blockwise_rate": 3e-2}
    settings = RefineSettings(**PLAIN | epochs | rates | options)
    found = refine(model, before, {}, {}, list(WINDOWS), settings=settings)
    assert found.weights.keys() == before.keys()
    for key, old in before.items():
        new = found.weights[key]
        for name, value in vars(old).items():
            if isinstance(value, np.ndarray):
                assert (getattr(new, name).shape, getattr(new, name).dtype) == (
                    value.shape, value.dtype)
        codes = "codes" if isinstance(old, GroupedWeights) else "indices"
        same = np.array_equal(getattr(old, codes), getattr(new, codes))
        assert same or settings.index_rate > 0
    assert bool(found.tensors) == settings.norms
    assert found.layer(1)["v"] is found.weights[1, "v"]
    exact = logarithms(model)
    made = logarithms(with_weights(found.model(model), found.weights))
    after = float((np.exp(exact) * (exact - made)).sum(axis=1).mean())
    assert after < 0.8 * divergence(model, before)


@pytest.mark.parametrize("stage", ["blockwise", "distill"])
def test_interrupted_and_resumed(torch, tmp_path, stage):
    model = small_model()
    weights = quantized(model)
    epochs = {"blockwise_epochs": 0, "distill_epochs": 0, f"{stage}_epochs": 2}
    settings = RefineSettings(**PLAIN, **epochs, index_rate=0.3)
    windows = list(WINDOWS[:2])
    told = []

    def interrupt(text):
        told.append(text)
        if "2 of 2" in text:
            raise KeyboardInterrupt

    expected = refine(model, weights, {}, {}, windows, settings=settings)
    with pytest.raises(KeyboardInterrupt):
        refine(model, weights, {}, {}, windows, settings=settings, progress=interrupt,
               work=tmp_path)
    told.clear()
    found = refine(model, weights, {}, {}, windows, settings=settings, progress=told.append,
                   work=tmp_path)
    assert not any("1 of 2" in text for text in told)
    for key, made in expected.weights.items():
        np.testing.assert_array_equal(found.weights[key].dense(), made.dense())
    assert not list(tmp_path.rglob("*.partial"))


def test_step_back(torch):
    """The loss explodes in the second epoch: it ends early, is undone, and the rate is halved."""
    from compiler.refine.stages import LATEST, Trainer

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.value = torch.nn.Parameter(torch.tensor(1.0))

        def choose(self):
            pass

    module, steps = Module(), []

    def loss(numbers):
        steps.append(numbers)
        return 1 + 8 * len(steps) + 0 * module.value if len(steps) > 20 else module.value

    trainer = Trainer(module, loss, [np.zeros(4)] * 20, RefineSettings(), 4, 1e-2)
    assert trainer.epoch(0) < 1
    kept = module.value.item()
    assert trainer.epoch(1) == trainer.lowest
    assert len(steps) < 20 + LATEST
    assert module.value.item() == kept
    assert trainer.largest == 5e-3
    assert trainer.done == 40


def test_without_torch(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CompileError,
                       match=r"^refinement needs torch: pip install lutrip\[reference\]$"):
        refine(small_model(), {}, {}, {}, list(WINDOWS), settings=RefineSettings())


@pytest.mark.parametrize(("options", "message"), [
    ({"distill_epochs": -1}, "refine: distill_epochs must not be negative, not -1"),
    ({"batch": 0}, "refine: batch must be positive, not 0"),
    ({"precision": "int8"}, "refine: precision must be bfloat16 or float32, not 'int8'"),
])
def test_wrong_settings(options, message):
    with pytest.raises(CompileError) as error:
        RefineSettings(**options)
    assert str(error.value) == message


def test_wrong_device_and_windows(torch):
    model = small_model()
    with pytest.raises(CompileError, match=r"^refine: device 'nowhere' cannot be used: "):
        refine(model, {}, {}, {}, list(WINDOWS), settings=RefineSettings(device="nowhere"))
    with pytest.raises(CompileError, match=r"^refine: the calibration text must have windows "):
        refine(model, {}, {}, {}, [np.array([1])], settings=RefineSettings())
