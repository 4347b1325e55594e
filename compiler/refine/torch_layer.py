"""One decoder layer in torch, as `compiler.float_layer` defines it, for windows side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from compiler.errors import CompileError
from compiler.float_layer import alibi_slopes, rotary_tables
from compiler.model import Architecture
from compiler.orthogonal import hadamard_matrix

Linear = Callable[[str, torch.Tensor], torch.Tensor]
"""Output of a linear by name, with its bias, float32 [B, T, M]."""
Tensors = Mapping[str, torch.Tensor]

ACTIVATIONS: dict[str, Callable[..., torch.Tensor]] = {
    "silu": functional.silu, "gelu": functional.gelu, "relu": functional.relu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "relu2": lambda x: functional.relu(x).square(), "elu": functional.elu,
    "selu": functional.selu, "mish": functional.mish,
}


class TorchLayer:
    """The parts of a layer that have no quantized weights.

    length: tokens of the longest window. Raises CompileError for an activation that torch does
    not have.
    """

    def __init__(self, architecture: Architecture, length: int, device: torch.device) -> None:
        if architecture.activation not in ACTIVATIONS:
            raise CompileError(f"refine: activation {architecture.activation} is not supported; "
                               f"supported are {', '.join(ACTIVATIONS)}")
        self.architecture = architecture
        distance = torch.arange(length)[:, None] - torch.arange(length)
        seen = distance >= 0
        if architecture.window:
            seen &= distance < architecture.window
        mask = torch.zeros(1, length, length)
        if architecture.position == "alibi":
            slopes = torch.tensor(alibi_slopes(architecture.heads), dtype=torch.float32)
            mask = -slopes[:, None, None] * distance
        self.mask = mask.masked_fill(~seen, -math.inf).to(device)
        self.plain = not architecture.window and architecture.position != "alibi"
        self.hadamard = None
        if length_of_block := architecture.hidden_rotation:
            self.hadamard = torch.tensor(hadamard_matrix(length_of_block), device=device)
        self.rotary = [torch.tensor(table.astype(np.float32), device=device)[:, None]
                       for table in rotary_tables(architecture, length)]

    def norm(self, x: torch.Tensor, weight: torch.Tensor,
             bias: torch.Tensor | None) -> torch.Tensor:
        """RMSNorm or LayerNorm of the last axis."""
        if self.architecture.norm == "layer":
            x = x - x.mean(-1, keepdim=True)
        return self.rms(x, weight, bias)

    def rms(self, x: torch.Tensor, weight: torch.Tensor,
            bias: torch.Tensor | None) -> torch.Tensor:
        """RMSNorm of the last axis."""
        mean = x.square().mean(-1, keepdim=True)
        y = x * torch.rsqrt(mean + self.architecture.norm_epsilon) * weight
        return y if bias is None else y + bias

    def rotated(self, x: torch.Tensor) -> torch.Tensor:
        """Rotary embedding of [B, T, heads, head_width]."""
        if self.architecture.position != "rope":
            return x
        half = self.architecture.rotary // 2
        cos, sin = (table[:x.shape[1]] for table in self.rotary)
        first, second, rest = x.split([half, half, x.shape[-1] - 2 * half], -1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], -1)

    def attention(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor,
                  dtype: torch.dtype) -> torch.Tensor:
        """Causal attention, [B, T, heads, head_width] to [B, T, all]."""
        length, group = q.shape[1], q.shape[2] // k.shape[2]
        k, v = (part.repeat_interleave(group, 2) for part in (k, v))
        parts = [part.transpose(1, 2).to(dtype) for part in (q, k, v)]
        options: dict[str, Any] = {"is_causal": True}
        if not self.plain:
            options = {"attn_mask": self.mask[:, :length, :length].to(dtype)}
        mixed = functional.scaled_dot_product_attention(*parts, **options)
        return mixed.transpose(1, 2).flatten(2).float()

    def run(self, tensors: Tensors, linear: Linear, x: torch.Tensor,
            dtype: torch.dtype) -> torch.Tensor:
        """Residual behind the layer, float32 [B, T, width]; dtype: of attention's products.

        tensors: the layer's norms by the names of `compiler.model`.
        """
        architecture = self.architecture

        def norm(name: str, inputs: torch.Tensor) -> torch.Tensor:
            return self.norm(inputs, tensors[name], tensors.get(f"{name}.bias"))

        inputs = norm("attention_norm", x)
        heads = {name: linear(name, inputs).unflatten(2, (-1, architecture.head_width))
                 for name in "qkv"}
        for name in "qk":
            if architecture.qk_norm:
                heads[name] = self.rms(heads[name], tensors[f"{name}_norm"],
                                       tensors.get(f"{name}_norm.bias"))
            heads[name] = self.rotated(heads[name])
        middle = x + linear("o", self.attention(heads["q"], heads["k"], heads["v"], dtype))
        inputs = norm("mlp_norm", middle)
        function = ACTIVATIONS[architecture.activation]
        hidden = linear("up", inputs)
        hidden = (function(linear("gate", inputs)) * hidden if architecture.gated
                  else function(hidden))
        if self.hadamard is not None:
            hidden = (hidden.unflatten(-1, (-1, len(self.hadamard))) @ self.hadamard).flatten(-2)
        return middle + linear("down", hidden)
