"""The float reference and the front ends against Hugging Face transformers (and its torch).

Run once with ``pip install -e .[dev,reference]``; without those packages everything is skipped.
The error of logits is the largest difference over the largest magnitude, over all positions and at
each position alone.
"""

import pytest

from compiler.forward import forward, generate
from compiler.frontends.load import load_model, load_tokenizer
from compiler.frontends.packaged import find_model
from compiler.frontends.safetensors import load_safetensors
from compiler.text import DEFAULT_PROMPT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
]

TEXT = "The capital of France is"
NEW_TOKENS = 32
TOKENS = [17, 3, 90, 3, 55, 21, 0, 1, 2, 64, 13, 13, 70, 8, 31, 95, 44, 6, 29]
LLAMA = {"vocab_size": 96, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3,
         "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 64}
LONG = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
OPT = {"vocab_size": 96, "hidden_size": 48, "ffn_dim": 112, "num_hidden_layers": 3,
       "num_attention_heads": 4, "max_position_embeddings": 40, "word_embed_proj_dim": 48}
CONFIGS = {
    "llama": ("LlamaConfig", LLAMA),
    "llama-biases": ("LlamaConfig", LLAMA | {
        "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "head_dim": 12}),
    "llama-long": ("LlamaConfig", LLAMA | {"rope_parameters": LONG}),
    "mistral": ("MistralConfig", LLAMA | {"sliding_window": 5}),
    "mistral-all": ("MistralConfig", LLAMA | {"sliding_window": None}),
    "qwen2": ("Qwen2Config", LLAMA),
    "qwen2-window": ("Qwen2Config", LLAMA | {
        "use_sliding_window": True, "sliding_window": 7, "max_window_layers": 0}),
    "qwen3": ("Qwen3Config", LLAMA | {"head_dim": 20, "tie_word_embeddings": True}),
    "opt": ("OPTConfig", OPT),
    "opt-gelu": ("OPTConfig", OPT | {
        "activation_function": "gelu", "enable_bias": False, "tie_word_embeddings": False}),
    "bloom": ("BloomConfig", {
        "vocab_size": 96, "hidden_size": 48, "n_layer": 3, "n_head": 6}),
}


@pytest.fixture(scope="module")
def transformers():
    """The library, which never asks a network."""
    reason = "needs the optional packages: pip install -e .[reference]"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        for module in ("torch", "accelerate"):
            pytest.importorskip(module, reason=reason)
        library = pytest.importorskip("transformers", reason=reason)
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
        yield library


@pytest.fixture(scope="module")
def smollm2(packaged_model, transformers):
    """The packaged model as transformers reads its GGUF file, in float32."""
    path = find_model(packaged_model)
    return transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype="float32", attn_implementation="eager").eval()


def reference_logits(model, tokens):
    """Logits [T, vocabulary] as numpy."""
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].float().numpy()


def reference_greedy(model, tokens, count):
    """Greedy tokens with the library's own key-value cache; the end token does not stop it."""
    torch = pytest.importorskip("torch")
    found, new, cache = [], tokens, None
    with torch.no_grad():
        for _ in range(count):
            output = model(torch.tensor([new]), past_key_values=cache, use_cache=True)
            cache, new = output.past_key_values, [int(output.logits[0, -1].argmax())]
            found += new
    return found


def relative_errors(found, expected):
    """Error over all positions, and the largest of a single position."""
    difference, size = abs(found - expected), abs(expected)
    return (difference.max() / size.max(),
            (difference.max(axis=1) / size.max(axis=1)).max())


def test_smollm2_logits(packaged_model, smollm2):
    tokens = load_tokenizer(packaged_model).encode(DEFAULT_PROMPT)
    errors = relative_errors(forward(load_model(packaged_model), tokens),
                             reference_logits(smollm2, tokens))
    print(f"SmolLM2-135M, {len(tokens)} tokens: relative error {errors[0]:.2g} over all, "
          f"{errors[1]:.2g} at one position")
    assert max(errors) < 1e-3


def test_smollm2_greedy_tokens(packaged_model, smollm2):
    tokenizer = load_tokenizer(packaged_model)
    tokens = tokenizer.encode(TEXT)
    expected = reference_greedy(smollm2, tokens, NEW_TOKENS)
    print(expected, repr(tokenizer.decode([*tokens, *expected])))
    assert generate(load_model(packaged_model).in_memory(), tokens, NEW_TOKENS) == expected


@pytest.mark.parametrize("name", CONFIGS)
def test_random_models(transformers, tmp_path, name):
    """Every weight, norm and bias is random, so that none can be left out unseen."""
    torch = pytest.importorskip("torch")
    kind, sizes = CONFIGS[name]
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(
        getattr(transformers, kind)(**sizes), dtype=torch.float32,
        attn_implementation="eager").eval()
    with torch.no_grad():
        for label, parameter in model.named_parameters():
            parameter.normal_(std=0.2)
            if parameter.ndim == 1 and label.endswith("weight"):
                parameter += 1
    model.save_pretrained(tmp_path)
    errors = relative_errors(forward(load_safetensors(tmp_path), TOKENS),
                             reference_logits(model, TOKENS))
    print(f"{name}: relative error {errors[0]:.2g} over all, {errors[1]:.2g} at one position")
    assert max(errors) < 1e-4
