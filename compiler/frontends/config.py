"""The config.json of a Hugging Face folder: what it says about the decoder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compiler.errors import FrontendError
from compiler.frontends.rope import factors_from_config
from compiler.model import FAMILIES, Architecture, is_number

ACTIVATIONS = {
    "swish": "silu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh", "gelu_accurate": "gelu_tanh",
}
"""Other names of activation functions."""


@dataclass(frozen=True)
class _Config:
    """Values of a config.json; a wrong one raises FrontendError with the path and the key."""

    path: Path
    values: Mapping[str, Any]

    def error(self, reason: str) -> FrontendError:
        return FrontendError(f"{self.path}: {reason}")

    def number(self, *keys: str, default: float | None = None) -> float:
        """Value of the first of several names of a key that is there and not null."""
        found = [self.values[key] for key in keys if self.values.get(key) is not None]
        if not found:
            if default is None:
                raise self.error(f"key {keys[0]} is missing")
            return default
        if not is_number(found[0]):
            raise self.error(f"{keys[0]} must be a number, not {str(found[0])[:40]!r}")
        return float(found[0])

    def integer(self, *keys: str, default: int | None = None) -> int:
        value = self.number(*keys, default=default)
        if value != int(value):
            raise self.error(f"{keys[0]} must be a whole number, not {value:g}")
        return int(value)

    def flag(self, key: str, default: bool = False) -> bool:
        return bool(self.values.get(key, default))

    def activation(self, key: str, default: str) -> str:
        name = str(self.values.get(key, default))
        return ACTIVATIONS.get(name, name)

    @property
    def name(self) -> str:
        return str(self.values.get("_name_or_path") or self.path.parent.resolve().name)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; raises FrontendError naming the file otherwise."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FrontendError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise FrontendError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise FrontendError(f"{path}: must hold a JSON object")
    return value


def read_architecture(folder: Path) -> Architecture:
    """Architecture of the folder's config.json; FrontendError for what is not supported."""
    config = _Config(folder / "config.json", read_json(folder / "config.json"))
    family = str(config.values.get("model_type", "unknown"))
    if family not in FAMILIES:
        raise config.error(f"model_type {family!r} is not supported; "
                           f"supported are {', '.join(FAMILIES)}")
    if config.values.get("quantization_config") is not None:
        raise config.error("quantized safetensors are not supported; "
                           "use the original checkpoint or a GGUF file")
    if family == "opt":
        return _opt(config)
    if family == "bloom":
        return _bloom(config)
    return _llama(config, family)


def _llama(config: _Config, family: str) -> Architecture:
    """Llama, Mistral and Qwen: RMS norms, rotary embedding and gated MLPs."""
    width, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    head_width = config.integer(
        "head_dim", default=128 if family == "qwen3" else width // max(heads, 1))
    layers = config.integer("num_hidden_layers")
    rope = config.values.get("rope_parameters") or config.values.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise config.error("rope_scaling must be an object")
    merged = _Config(config.path, {**config.values, **rope})
    base = merged.number("rope_theta", default=10000.0)
    rotary = int(head_width * merged.number("partial_rotary_factor", default=1.0))
    if rotary == 0 < head_width:
        raise config.error("partial_rotary_factor leaves no element of a head to rotate")
    return Architecture(
        name=config.name,
        family=family,
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=config.integer("num_key_value_heads", default=heads),
        head_width=head_width,
        ffn_width=config.integer("intermediate_size"),
        vocabulary=config.integer("vocab_size"),
        norm_epsilon=config.number("rms_norm_eps", default=1e-6),
        rope_base=base,
        context=config.integer("max_position_embeddings", default=2048),
        tied_embeddings=config.flag("tie_word_embeddings"),
        rope_factors=factors_from_config(rope, rotary, base, str(config.path)),
        rotary_width=0 if rotary == head_width else rotary,
        window=_window(config, family, layers),
        qkv_bias=family == "qwen2" or config.flag("attention_bias"),
        qk_norm=family == "qwen3",
        activation=config.activation("hidden_act", "silu"),
    )


def _window(config: _Config, family: str, layers: int) -> int:
    """Positions that a token sees in every layer, 0 for all before it."""
    if family == "mistral":
        windowed = layers
    elif not config.flag("use_sliding_window"):
        return 0
    elif isinstance(kinds := config.values.get("layer_types"), list):
        windowed = kinds.count("sliding_attention")
    else:
        windowed = max(layers - config.integer("max_window_layers", default=28), 0)
    if windowed == 0 or config.values.get("sliding_window", 4096) is None:
        return 0
    if windowed < layers:
        raise config.error(f"sliding windows in {windowed} of {layers} layers are not supported, "
                           "only in all or none")
    return config.integer("sliding_window", default=4096)


def _opt(config: _Config) -> Architecture:
    """OPT (Zhang et al., "OPT: Open Pre-trained Transformer Language Models")."""
    width, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    if not config.flag("do_layer_norm_before", True):
        raise config.error("norms behind the layers (do_layer_norm_before false) "
                           "are not supported")
    if config.integer("word_embed_proj_dim", default=width) != width:
        raise config.error("an embedding of another width than the layers "
                           "(word_embed_proj_dim) is not supported")
    return Architecture(
        name=config.name,
        family="opt",
        layers=config.integer("num_hidden_layers"),
        width=width,
        heads=heads,
        kv_heads=heads,
        head_width=width // max(heads, 1),
        ffn_width=config.integer("ffn_dim"),
        vocabulary=config.integer("vocab_size"),
        norm_epsilon=1e-5,
        rope_base=1e4,
        context=config.integer("max_position_embeddings", default=2048),
        tied_embeddings=config.flag("tie_word_embeddings", True),
        activation=config.activation("activation_function", "relu"),
        norm="layer",
        position="learned",
        position_offset=2,
        gated=False,
        linear_bias=config.flag("enable_bias", True),
    )


def _bloom(config: _Config) -> Architecture:
    """BLOOM (Scao et al., "BLOOM: A 176B-Parameter Open-Access Multilingual Language Model")."""
    width = config.integer("hidden_size", "n_embed")
    heads = config.integer("n_head", "num_attention_heads")
    if config.flag("apply_residual_connection_post_layernorm"):
        raise config.error("residuals taken behind the norm "
                           "(apply_residual_connection_post_layernorm) are not supported")
    return Architecture(
        name=config.name,
        family="bloom",
        layers=config.integer("n_layer", "num_hidden_layers"),
        width=width,
        heads=heads,
        kv_heads=heads,
        head_width=width // max(heads, 1),
        ffn_width=4 * width,
        vocabulary=config.integer("vocab_size"),
        norm_epsilon=config.number("layer_norm_epsilon", default=1e-5),
        rope_base=1e4,
        context=config.integer("seq_length", default=2048),
        tied_embeddings=config.flag("tie_word_embeddings", True),
        activation="gelu_tanh",
        norm="layer",
        position="alibi",
        gated=False,
        linear_bias=True,
        embedding_norm=True,
    )
