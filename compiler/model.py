"""The neutral model every front end produces: an architecture and lazily read named tensors.

Tensor names: ``embedding``, ``final_norm``, ``head`` and, for each layer i,
``layers.{i}.{q,k,v,o,gate,up,down}.weight`` (and ``.bias`` where the model has one),
``layers.{i}.{attention_norm,mlp_norm}`` and, with q/k norms, ``layers.{i}.{q_norm,k_norm}``.
A LayerNorm has its bias under the norm's name and ``.bias``. ``position_embedding`` holds learned
positions, ``embedding_norm`` a norm of the embedding. MLPs without a gate are up and down.
Weights are [out, in]. Rotary pairs are always the elements ``(i, i + head_width / 2)`` of a head:
a front end reorders the rows of checkpoints that keep pairs side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.activation_table import FUNCTIONS
from compiler.errors import FrontendError
from hw.fixed import Ints

Floats = NDArray[np.float32]

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "opt", "bloom")
LINEARS = ("q", "k", "v", "o", "gate", "up", "down")
INPUT_OF = {"q": "attention_input", "k": "attention_input", "v": "attention_input",
            "o": "attention_output", "gate": "mlp_input", "up": "mlp_input", "down": "mlp_hidden"}
"""Which activations a linear layer reads; layers with the same ones share a tensor."""
NORMS, POSITIONS = ("rms", "layer"), ("rope", "learned", "alibi")
LAYERS_MAX = 1024
"""More layers than any model has; a damaged count must not make us list its tensors."""
BLOCK = 32
"""Inputs of a GGUF block that share a scale."""


def is_number(value: object) -> bool:
    """Whether a value read from a file is a finite number."""
    return (isinstance(value, int | float) and not isinstance(value, bool)
            and math.isfinite(value))


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Sizes and constants of a decoder.

    family: one of `FAMILIES`.
    width: elements of the residual; a layer has ``heads`` query heads and ``kv_heads`` key and
    value heads of ``head_width`` elements.
    rope_base: base of the rotary frequencies; rope_factors: what each of the ``head_width / 2``
    frequencies is divided by (long-context scaling), or None.
    tied_embeddings: the output head is the embedding.
    qkv_bias: q, k and v have biases; qk_norm: queries and keys are normalized per head.
    context: tokens the model was made for.
    activation: a name of `compiler.activation_table.FUNCTIONS`; gated: the MLP has a gate.
    norm: a name of `NORMS`; a layer norm has a bias.
    position: a name of `POSITIONS`; rotary_width: elements of a head that rotate, 0 for all;
    position_offset: rows at the start of the table of learned positions that are not used.
    linear_bias: every linear has a bias.
    window: positions that a token sees, itself included; 0 for all up to itself.
    embedding_norm: the embedding is followed by a norm.
    hidden_rotation: length of the blocks in which down's input is multiplied by an orthonormal
    Hadamard matrix (`compiler.rotation`), or 0.
    """

    name: str
    family: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    ffn_width: int
    vocabulary: int
    norm_epsilon: float
    rope_base: float
    context: int
    tied_embeddings: bool
    rope_factors: tuple[float, ...] | None = None
    qkv_bias: bool = False
    qk_norm: bool = False
    activation: str = "silu"
    norm: str = "rms"
    position: str = "rope"
    rotary_width: int = 0
    position_offset: int = 0
    gated: bool = True
    linear_bias: bool = False
    window: int = 0
    embedding_norm: bool = False
    hidden_rotation: int = 0

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise FrontendError(f"{self.name}: architecture {self.family!r} is not supported; "
                                f"supported are {', '.join(FAMILIES)}")
        for field in ("layers", "width", "heads", "kv_heads", "head_width", "ffn_width",
                      "vocabulary", "norm_epsilon", "rope_base", "context"):
            if getattr(self, field) <= 0:
                raise FrontendError(f"{self.name}: {field} must be positive, "
                                    f"not {getattr(self, field)}")
        if self.layers > LAYERS_MAX:
            raise FrontendError(f"{self.name}: {self.layers} layers are more than {LAYERS_MAX}")
        if self.heads % self.kv_heads:
            raise FrontendError(f"{self.name}: {self.heads} heads cannot share "
                                f"{self.kv_heads} key-value heads evenly")
        if self.position == "rope" and (self.head_width % 2 or self.rotary % 2):
            raise FrontendError(f"{self.name}: rotary width {self.rotary} of head width "
                                f"{self.head_width} is odd; rotary embedding needs pairs")
        if self.activation not in FUNCTIONS:
            raise FrontendError(f"{self.name}: activation {self.activation!r} is not supported; "
                                f"supported are {', '.join(FUNCTIONS)}")
        for field, choices in (("norm", NORMS), ("position", POSITIONS)):
            if getattr(self, field) not in choices:
                raise FrontendError(f"{self.name}: {field} must be {' or '.join(choices)}, "
                                    f"not {getattr(self, field)!r}")
        if self.window < 0:
            raise FrontendError(f"{self.name}: window must not be negative, not {self.window}")
        if not 0 <= self.rotary_width <= self.head_width:
            raise FrontendError(f"{self.name}: {self.rotary_width} of {self.head_width} elements "
                                "of a head cannot rotate")
        if self.rope_factors is not None and len(self.rope_factors) != self.rotary // 2:
            raise FrontendError(f"{self.name}: {len(self.rope_factors)} rotary factors for "
                                f"{self.rotary // 2} frequencies")

    @property
    def rotary(self) -> int:
        """Elements of a head that rotate."""
        return self.rotary_width or self.head_width

    @property
    def linears(self) -> tuple[str, ...]:
        """Linear layers of a decoder layer."""
        return LINEARS if self.gated else tuple(name for name in LINEARS if name != "gate")

    def has_bias(self, linear: str) -> bool:
        """Whether a linear layer always has a bias."""
        return self.linear_bias or (self.qkv_bias and linear in "qkv")

    def linear_shape(self, linear: str) -> tuple[int, int]:
        """Outputs and inputs of one of `LINEARS`."""
        queries = self.heads * self.head_width
        keys = self.kv_heads * self.head_width
        return {
            "q": (queries, self.width), "k": (keys, self.width), "v": (keys, self.width),
            "o": (self.width, queries), "gate": (self.ffn_width, self.width),
            "up": (self.ffn_width, self.width), "down": (self.width, self.ffn_width),
        }[linear]

    def required(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor that the model must have."""
        shapes: dict[str, tuple[int, ...]] = {"embedding": (self.vocabulary, self.width)}

        def norm(name: str) -> None:
            shapes[name] = (self.width,)
            if self.norm == "layer":
                shapes[f"{name}.bias"] = (self.width,)

        if self.position == "learned":
            rows = self.context + self.position_offset
            shapes["position_embedding"] = (rows, self.width)
        if self.embedding_norm:
            norm("embedding_norm")
        for i in range(self.layers):
            prefix = f"layers.{i}."
            norm(prefix + "attention_norm")
            norm(prefix + "mlp_norm")
            if self.qk_norm:
                shapes[prefix + "q_norm"] = shapes[prefix + "k_norm"] = (self.head_width,)
            for linear in self.linears:
                shapes[f"{prefix}{linear}.weight"] = self.linear_shape(linear)
                if self.has_bias(linear):
                    shapes[f"{prefix}{linear}.bias"] = self.linear_shape(linear)[:1]
        norm("final_norm")
        if not self.tied_embeddings:
            shapes["head"] = (self.vocabulary, self.width)
        return shapes

    def optional(self) -> dict[str, tuple[int, ...]]:
        """Shape of tensors that some checkpoints of the family have."""
        return {f"layers.{i}.{linear}.bias": self.linear_shape(linear)[:1]
                for i in range(self.layers) for linear in self.linears}


@dataclass(frozen=True, kw_only=True)
class QuantizedBlocks:
    """A checkpoint's own integer weights: ``weight = scale * code (+ minimum)`` per 32 inputs.

    kind: q4_0 (codes -8..7), q4_1 (codes -8..7 and minima) or q8_0 (codes -128..127).
    codes: int8 [out, in]; scales, minima: float32 [out, in / 32]; minima is None without one.
    Q4_1 stores ``scale * (code + 8) + m``: its minimum here is ``m + 8 * scale``, which float32
    holds exactly unless the two float16 differ by more than a factor of 1000 or so.
    """

    kind: str
    codes: Ints
    scales: Floats
    minima: Floats | None

    def dequantize(self) -> Floats:
        """Weights [out, in], as the checkpoint's format defines them."""
        rows, inputs = self.codes.shape
        codes = self.codes.reshape(rows, inputs // BLOCK, BLOCK).astype(np.float32)
        weights = codes * self.scales[:, :, None]
        if self.minima is not None:
            weights += self.minima[:, :, None]
        return weights.reshape(rows, inputs)


@dataclass(frozen=True)
class StoredTensor:
    """One tensor where it lies; nothing is read before ``read``.

    read: the rows of an index array or slice, dequantized; blocks: the checkpoint's own integers,
    None where it keeps floats.
    """

    shape: tuple[int, ...]
    read: Callable[[slice | Ints], Floats]
    blocks: Callable[[], QuantizedBlocks] | None = None


@dataclass(frozen=True)
class Model:
    """A decoder whose tensors are read when asked for; raises FrontendError if one is missing.

    label: what the checkpoint calls a tensor, for messages.
    """

    architecture: Architecture
    tensors: Mapping[str, StoredTensor]
    source: str
    label: Callable[[str], str] = str

    def __post_init__(self) -> None:
        for name, shape in self.architecture.required().items():
            if name not in self.tensors:
                raise FrontendError(f"{self.source}: tensor {self.label(name)} is missing; "
                                    "the file is incomplete or is not a "
                                    f"{self.architecture.family} model")
            self._check_shape(name, shape)
        for name, shape in self.architecture.optional().items():
            if name in self.tensors:
                self._check_shape(name, shape)

    def _check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        found = self.tensors[name].shape
        if found != shape:
            raise FrontendError(f"{self.source}: tensor {self.label(name)} has shape "
                                f"{list(found)}, the architecture needs {list(shape)}")

    def has(self, name: str) -> bool:
        """Whether the model has the tensor ``name`` (tied heads count)."""
        return self._stored_name(name) in self.tensors

    def tensor(self, name: str) -> Floats:
        """The whole tensor in float32; raises KeyError for an unknown name."""
        return self.tensors[self._stored_name(name)].read(slice(None))

    def rows(self, name: str, rows: Ints) -> Floats:
        """Some rows of a tensor, without dequantizing the others."""
        return self.tensors[self._stored_name(name)].read(rows)

    def in_memory(self) -> Model:
        """The same model with every tensor already read, for many passes over a small model."""
        tensors = {name: StoredTensor(stored.shape, stored.read(slice(None)).__getitem__,
                                      stored.blocks)
                   for name, stored in self.tensors.items()}
        return Model(self.architecture, tensors, self.source, self.label)

    def blocks(self, name: str) -> QuantizedBlocks | None:
        """The checkpoint's own Q4_0, Q4_1 or Q8_0 integers, None where it has others or floats."""
        blocks = self.tensors[self._stored_name(name)].blocks
        return None if blocks is None else blocks()

    def _stored_name(self, name: str) -> str:
        tied = name == "head" and self.architecture.tied_embeddings
        return "embedding" if tied else name
