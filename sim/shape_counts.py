"""What a decoder's shape costs on any machine: weights, bytes and operations."""

from __future__ import annotations

from compiler.model import Architecture


def layer_weights(model: Architecture) -> int:
    """Weights of the linear layers of all layers, without embedding and head."""
    heads, cache = (count * model.head_width for count in (model.heads, model.kv_heads))
    attention = model.width * (2 * heads + 2 * cache)
    return model.layers * (attention + (3 if model.gated else 2) * model.width * model.ffn_width)


def head_weights(model: Architecture) -> int:
    """Weights of the language model head."""
    return model.width * model.vocabulary


def cache_bytes(model: Architecture, keys: int, bits: float) -> float:
    """Keys and values of ``keys`` positions in all layers."""
    return 2 * model.layers * model.kv_heads * model.head_width * keys * bits / 8


def decode_bytes(
    model: Architecture, weight_bits: float, keys: int, head_bits: float = 16,
    cache_bits: float = 16,
) -> float:
    """Bytes that one decoded token reads: every weight once, and the keys and values so far."""
    return (layer_weights(model) * weight_bits / 8 + head_weights(model) * head_bits / 8
            + cache_bytes(model, keys, cache_bits))


def prefill_operations(model: Architecture, tokens: int) -> float:
    """Operations (a multiply-add is two) of a prompt: linears, attention, one row of the head."""
    attention = 2 * model.layers * model.heads * model.head_width * tokens * (tokens + 1) / 2 * 2
    return 2.0 * layer_weights(model) * tokens + attention + 2.0 * head_weights(model)
