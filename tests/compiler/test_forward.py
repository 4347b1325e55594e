"""The float reference against a second, plain definition, and on the packaged model."""

import dataclasses
import math
from pathlib import Path

import gguf
import numpy as np
import pytest

from compiler.errors import FrontendError
from compiler.float_layer import alibi_slopes
from compiler.forward import capture_activations, forward, generate, perplexity
from compiler.frontends.gguf import load_gguf, open_gguf
from compiler.frontends.load import load_model, load_tokenizer
from compiler.frontends.safetensors import load_safetensors
from compiler.frontends.shapes import SHAPES, load_shape
from compiler.model import LINEARS, Model
from tests.compiler.checkpoints import (
    TINY,
    model_of,
    random_weights,
    write_folder,
    write_gguf,
)

TOKENS = [17, 3, 250, 3, 99]


def plain_activation(name: str, x: np.ndarray) -> np.ndarray:
    """The activation function in float64, one value at a time."""
    formula = {
        "silu": lambda y: y / (1 + math.exp(-y)),
        "relu": lambda y: y if y > 0 else 0.0,
        "gelu_tanh": lambda y: y / (1 + math.exp(-2 * math.sqrt(2 / math.pi)
                                                 * (y + 0.044715 * y * y * y))),
    }[name]
    return np.array([formula(float(y)) for y in x])


def plain_slopes(heads: int) -> list[float]:
    """The recursion published with ALiBi."""
    if heads & (heads - 1) == 0:
        first = 2 ** -(2 ** -(math.log2(heads) - 3))
        return [first * first**i for i in range(heads)]
    power = 2 ** math.floor(math.log2(heads))
    return plain_slopes(power) + plain_slopes(2 * power)[::2][:heads - power]


def plain_logits(model: Model, tokens: list[int]) -> np.ndarray:
    """Logits of the last token, one head and one pair at a time in float64."""
    a = model.architecture

    def get(name: str) -> np.ndarray:
        return model.tensor(name).astype(np.float64)

    def norm(x, name):
        if a.norm == "layer" and len(x) == a.width:
            x = x - sum(x) / len(x)
        y = x / math.sqrt((x * x).mean() + a.norm_epsilon) * get(name)
        return y + get(name + ".bias") if model.has(name + ".bias") else y

    def linear(x, name):
        y = get(name + ".weight") @ x
        return y + get(name + ".bias") if model.has(name + ".bias") else y

    def rotate(x, position):
        rotating = a.rotary_width or a.head_width
        half = rotating // 2
        y = x.copy()
        if a.position != "rope":
            return y
        for i in range(half):
            angle = position / a.rope_base ** (2 * i / rotating)
            if a.rope_factors:
                angle /= a.rope_factors[i]
            turned = complex(x[i], x[i + half]) * complex(math.cos(angle), math.sin(angle))
            y[i], y[i + half] = turned.real, turned.imag
        return y

    slopes = plain_slopes(a.heads) if a.position == "alibi" else [0.0] * a.heads
    states = [get("embedding")[token] for token in tokens]
    if a.embedding_norm:
        states = [norm(state, "embedding_norm") for state in states]
    if a.position == "learned":
        learned = get("position_embedding")[a.position_offset:]
        states = [state + learned[position] for position, state in enumerate(states)]
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
            first = max(position + 1 - a.window, 0) if a.window else 0
            for head in range(a.heads):
                shared = head // (a.heads // a.kv_heads)
                weights = {}
                for past in range(first, position + 1):
                    score = queries[position][head] @ keys[past][shared] / math.sqrt(a.head_width)
                    weights[past] = math.exp(score + slopes[head] * (past - position))
                mixed.append(sum(weight * values[past][shared] for past, weight in weights.items())
                             / sum(weights.values()))
            state = state + linear(np.concatenate(mixed), prefix + "o")
            h = norm(state, prefix + "mlp_norm")
            if a.gated:
                hidden = plain_activation(a.activation, linear(h, prefix + "gate"))
                hidden *= linear(h, prefix + "up")
            else:
                hidden = plain_activation(a.activation, linear(h, prefix + "up"))
            states[position] = state + linear(hidden, prefix + "down")
    return get("head") @ norm(states[-1], "final_norm")


@pytest.mark.parametrize(("shape", "changes"), [
    ("tiny", {}),
    ("tiny-qwen2", {"tied_embeddings": False}),
    ("tiny-qwen3", {}),
    ("tiny", {"rope_factors": tuple(range(1, 9)), "kv_heads": 1}),
    ("tiny-mistral", {"rotary_width": 0, "window": 3}),
    ("tiny-mistral", {"rotary_width": 6, "window": 1}),
    ("tiny", {"rotary_width": 4, "rope_factors": (2.0, 3.0), "activation": "relu"}),
    ("tiny-opt", {}),
    ("tiny-opt", {"position_offset": 0, "linear_bias": False, "tied_embeddings": False}),
    ("tiny-bloom", {}),
    ("tiny-bloom", {"heads": 6, "kv_heads": 6, "head_width": 9}),
    ("tiny-bloom", {"heads": 6, "kv_heads": 2, "head_width": 8, "window": 3}),
    ("tiny-bloom", {"heads": 1, "kv_heads": 1, "gated": True, "embedding_norm": False}),
])
def test_forward_is_the_plain_definition(shape, changes):
    architecture = dataclasses.replace(SHAPES[shape], **changes)
    model = model_of(architecture, random_weights(architecture))
    np.testing.assert_allclose(forward(model, TOKENS)[-1], plain_logits(model, TOKENS),
                               rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(("heads", "exponents"), [
    (1, [8]), (4, [2, 4, 6, 8]), (6, [2, 4, 6, 8, 1, 3]), (9, [1, 2, 3, 4, 5, 6, 7, 8, 0.5]),
])
def test_alibi_slopes(heads, exponents):
    np.testing.assert_allclose(alibi_slopes(heads), [2.0**-exponent for exponent in exponents])
    np.testing.assert_allclose(alibi_slopes(heads), plain_slopes(heads))


def test_windows_hide_older_tokens():
    """In one layer a token sees exactly ``window`` tokens, itself included."""
    architecture = dataclasses.replace(SHAPES["tiny-mistral"], layers=1, window=3)
    model = model_of(architecture, random_weights(architecture))
    last = forward(model, TOKENS)[-1]
    np.testing.assert_array_equal(forward(model, [9, 8, *TOKENS[2:]])[-1], last)
    assert not np.array_equal(forward(model, [17, 3, 8, *TOKENS[3:]])[-1], last)


def test_drelu_applies_to_both_factors():
    architecture = dataclasses.replace(TINY, activation="drelu", layers=1)
    weights = random_weights(architecture)
    seen: dict[str, np.ndarray] = {}
    forward(model_of(architecture, weights), TOKENS,
            capture=lambda layer, name, x: seen.update({name: x}))
    gate, up = (np.maximum(seen[name] @ weights[f"layers.0.{name}.weight"].T, 0)
                for name in ("gate", "up"))
    np.testing.assert_allclose(seen["down"], gate * up, rtol=1e-5)


def test_texts_longer_than_learned_positions():
    architecture = dataclasses.replace(SHAPES["tiny-opt"], context=5)
    model = model_of(architecture, random_weights(architecture))
    assert forward(model, TOKENS).shape == (5, 256)
    with pytest.raises(FrontendError, match="6 tokens are too many, the model has 5 learned posi"):
        forward(model, [*TOKENS, 1])
    with pytest.raises(FrontendError, match="5 learned positions; use a shorter text"):
        generate(model, TOKENS, 2)


def test_generation_takes_the_most_likely_token():
    model = load_shape("shape:tiny-qwen3")
    text = list(TOKENS)
    for _ in range(6):
        text.append(int(np.argmax(plain_logits(model, text))))
    assert generate(model, TOKENS, 6) == generate(model.in_memory(), TOKENS, 6) == text[5:]
    assert generate(model, TOKENS, 0) == []


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
