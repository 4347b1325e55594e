"""The float reference against a second, plain definition, and on the packaged model."""

import dataclasses
import math
from pathlib import Path

import gguf
import numpy as np
import pytest

from compiler.errors import FrontendError
from compiler.forward import capture_activations, forward, perplexity
from compiler.frontends.gguf import load_gguf, open_gguf
from compiler.frontends.load import load_model, load_tokenizer
from compiler.frontends.safetensors import load_safetensors
from compiler.frontends.shapes import load_shape
from compiler.model import LINEARS, Model
from tests.compiler.checkpoints import (
    TINY,
    model_of,
    random_weights,
    write_folder,
    write_gguf,
)

TOKENS = [17, 3, 250, 3, 99]


def plain_logits(model: Model, tokens: list[int]) -> np.ndarray:
    """Logits of the last token, one head and one pair at a time in float64."""
    a = model.architecture

    def get(name: str) -> np.ndarray:
        return model.tensor(name).astype(np.float64)

    def norm(x, name):
        return x / math.sqrt((x * x).mean() + a.norm_epsilon) * get(name)

    def linear(x, name):
        y = get(name + ".weight") @ x
        return y + get(name + ".bias") if model.has(name + ".bias") else y

    def rotate(x, position):
        half = a.head_width // 2
        y = x.copy()
        for i in range(half):
            angle = position / a.rope_base ** (2 * i / a.head_width)
            if a.rope_factors:
                angle /= a.rope_factors[i]
            turned = complex(x[i], x[i + half]) * complex(math.cos(angle), math.sin(angle))
            y[i], y[i + half] = turned.real, turned.imag
        return y

    states = [get("embedding")[token] for token in tokens]
    for layer in range(a.layers):
        prefix = f"layers.{layer}."
        queries, keys, values = [], [], []
        for position, state in enumerate(states):
            h = norm(state, prefix + "attention_norm")
            q, k, v = (linear(h, prefix + name).reshape(-1, a.head_width) for name in "qkv")
            if a.qk_norm:
                q = [norm(x, prefix + "q_norm") for x in q]
                k = [norm(x, prefix + "k_norm") for x in k]
            queries.append([rotate(x, position) for x in q])
            keys.append([rotate(x, position) for x in k])
            values.append(v)
        for position, state in enumerate(states):
            mixed = []
            for head in range(a.heads):
                shared = head // (a.heads // a.kv_heads)
                scores = np.array([queries[position][head] @ keys[past][shared]
                                   for past in range(position + 1)]) / math.sqrt(a.head_width)
                weights = np.exp(scores) / np.exp(scores).sum()
                mixed.append(sum(weights[past] * values[past][shared]
                                 for past in range(position + 1)))
            state = state + linear(np.concatenate(mixed), prefix + "o")
            h = norm(state, prefix + "mlp_norm")
            gate = linear(h, prefix + "gate")
            product = gate / (1 + np.exp(-gate)) * linear(h, prefix + "up")
            states[position] = state + linear(product, prefix + "down")
    return get("head") @ norm(states[-1], "final_norm")


@pytest.mark.parametrize("changes", [
    {},
    {"family": "qwen2", "qkv_bias": True, "tied_embeddings": False},
    {"family": "qwen3", "qk_norm": True, "head_width": 24},
    {"rope_factors": tuple(range(1, 9)), "kv_heads": 1},
])
def test_forward_is_the_plain_definition(changes):
    architecture = dataclasses.replace(TINY, **changes)
    model = model_of(architecture, random_weights(architecture))
    np.testing.assert_allclose(forward(model, TOKENS)[-1], plain_logits(model, TOKENS),
                               rtol=2e-4, atol=2e-4)


def test_file_formats_agree(tmp_path):
    weights = random_weights(TINY)
    folder = load_safetensors(write_folder(tmp_path / "m", TINY, weights))
    file = load_gguf(write_gguf(tmp_path / "m.gguf", TINY, weights))
    np.testing.assert_allclose(forward(file, TOKENS), forward(folder, TOKENS), rtol=1e-5)


def test_captured_inputs_are_those_of_the_linears():
    model = load_shape("shape:tiny")
    seen = []
    forward(model, TOKENS, capture=lambda layer, name, x: seen.append((layer, name, x.shape)))
    assert [(layer, name) for layer, name, _ in seen] == [(i, n) for i in (0, 1) for n in LINEARS]
    inputs = capture_activations(model, TOKENS, 1)
    for name, x in inputs.items():
        assert x.shape == (5, TINY.linear_shape(name)[1])
        assert x.dtype == np.float32
    assert inputs["q"] is inputs["k"] or np.shares_memory(inputs["q"], inputs["k"])
    weight = {name: model.tensor(f"layers.1.{name}.weight") for name in LINEARS}
    gate, up = inputs["gate"] @ weight["gate"].T, inputs["up"] @ weight["up"].T
    np.testing.assert_allclose(gate / (1 + np.exp(-gate)) * up, inputs["down"],
                               rtol=1e-4, atol=1e-5)


def test_later_tokens_change_nothing_before_them():
    model = load_shape("shape:tiny")
    np.testing.assert_allclose(forward(model, TOKENS)[:3], forward(model, TOKENS[:3]),
                               rtol=1e-4, atol=1e-5)


def test_perplexity_is_that_of_the_logits():
    model = load_shape("shape:tiny")
    tokens = list(range(7, 47))
    loss = []
    for window in (tokens[:16], tokens[16:32], tokens[32:]):
        logits = forward(model, window)[:-1].astype(np.float64)
        chosen = logits[np.arange(len(window) - 1), window[1:]]
        loss += (np.log(np.exp(logits).sum(axis=1)) - chosen).tolist()
    assert math.isclose(perplexity(model, tokens, 16), math.exp(np.mean(loss)), rel_tol=1e-4)
    assert math.isclose(perplexity(model, tokens[:33], 16), perplexity(model, tokens[:32], 16))


def test_bad_tokens_and_layers():
    model = load_shape("shape:tiny")
    with pytest.raises(FrontendError, match="shape:tiny: there is no layer 2; the layers are 0 "):
        capture_activations(model, TOKENS, 2)
    for tokens in ([256], [-1]):
        with pytest.raises(FrontendError, match="a token is outside the vocabulary of 256"):
            forward(model, tokens)
    with pytest.raises(FrontendError, match="the text is empty"):
        forward(model, [])
    with pytest.raises(FrontendError, match="the text is too short for a perplexity"):
        perplexity(model, [1])
    with pytest.raises(ValueError, match="a window must hold at least 2 tokens, not 1"):
        perplexity(model, TOKENS, 1)
    with pytest.raises(ValueError, match="cannot run 3 of 2 layers"):
        forward(model, TOKENS, layers=3)


def test_packaged_model_knows_paris(packaged_model):
    model, tokenizer = load_model(packaged_model), load_tokenizer(packaged_model)
    tokens = tokenizer.encode("The capital of France is")
    tokens.append(int(forward(model, tokens)[-1].argmax()))
    assert tokenizer.decode(tokens) == "The capital of France is Paris"


def test_packaged_blocks_are_exact(packaged_model):
    model = load_model(packaged_model)
    stored = {tensor.name: tensor for tensor in open_gguf(Path(model.source)).tensors}
    for name, label in (("layers.7.gate.weight", "blk.7.ffn_gate.weight"),
                        ("layers.0.o.weight", "blk.0.attn_output.weight")):
        blocks = model.blocks(name)
        assert blocks is not None
        tensor = stored[label]
        expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        np.testing.assert_array_equal(blocks.dequantize(), expected)
        np.testing.assert_array_equal(model.tensor(name), expected)
    q = model.blocks("layers.3.q.weight")
    assert q is not None
    np.testing.assert_array_equal(q.dequantize(), model.tensor("layers.3.q.weight"))
