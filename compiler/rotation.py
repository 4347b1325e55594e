"""Rotations that take outliers away, folded into the neighbouring weights of a float model.

QuaRot (Ashkboos et al., 2024) and SpinQuant (Liu et al., 2024), after the incoherence processing of
QuIP# (Tseng et al., 2024). Three rotations leave the float model what it is:

- the residual becomes ``x Q``: the embedding and every linear that writes it is multiplied by Q,
  every linear that reads it by Q as well, as ``Q Q^T`` is one. RMSNorm commutes with Q once its
  weight is folded into the linears behind it;
- the values of a key-value head become ``v R``, and o takes the rotation back;
- the input of down becomes ``h H`` in blocks, H a Hadamard matrix. The function before it does not
  commute, so that the device computes this one (`hw.golden.hadamard`); down takes it back.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np

from compiler.errors import CompileError
from compiler.model import LINEARS, Architecture, Floats, Model, StoredTensor
from compiler.orthogonal import Rotation, hadamard_blocks
from compiler.quant.scheme import SchemeMap
from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.golden.hadamard import LENGTH_BITS_MAX

RESIDUAL_SEED, VALUE_SEED = 1, 2
NORM_OF = {"q": "attention_norm", "k": "attention_norm", "v": "attention_norm",
           "gate": "mlp_norm", "up": "mlp_norm"}
"""The norm whose weight goes into a linear."""
FOLDED = ("attention_norm", "mlp_norm", "final_norm")
"""Norms whose weights become ones."""


def hidden_length(architecture: Architecture) -> int:
    """Longest block that divides the MLP's hidden width and that the hardware's unit takes."""
    width = architecture.ffn_width
    return min(width & -width, 1 << LENGTH_BITS_MAX)


def rotated_model(model: Model, scheme: SchemeMap, hardware: HardwareConfig) -> Model:
    """The model as a scheme's ``rotation`` wants it; itself for ``none``.

    Its float results are those of the model. Tensors are rotated when they are read. Raises
    CompileError in one line where the model or the hardware does not allow it.
    """
    if scheme.rotation == "none":
        return model
    if scheme.rotation == "residual":
        return rotate_model(model, 0)
    if not hardware.hadamard:
        raise CompileError(f"scheme {scheme.name}: hardware {hardware.name} has no Hadamard unit; "
                           "use rotation residual, or hardware with hadamard true")
    length = hidden_length(model.architecture)
    if length == 1:
        raise CompileError(f"scheme {scheme.name}: the MLP's width of "
                           f"{model.architecture.ffn_width} is odd and has no blocks to rotate; "
                           "use rotation residual")
    return rotate_model(model, length)


def rotate_model(model: Model, hidden: int) -> Model:
    """The model with residual and values rotated, and down's input in blocks of ``hidden``.

    hidden: a power of two that divides the MLP's width, or 0 for no rotation there; it becomes the
    architecture's ``hidden_rotation``, for which the hidden activations are rotated before down.
    Raises CompileError for models with LayerNorm, which centres the residual, with a bias behind
    its norms, or with a norm of the embedding.
    """
    architecture = model.architecture
    biased = any(name.rpartition(".")[0].endswith(FOLDED) for name in model.tensors)
    if architecture.norm != "rms" or architecture.embedding_norm or biased:
        raise CompileError(f"{model.source}: the residual of a model with LayerNorm, biases of "
                           "norms or a norm of the embedding cannot be rotated; use a scheme with "
                           "rotation none")
    if hidden and (hidden & (hidden - 1) or architecture.ffn_width % hidden):
        raise ValueError(f"blocks of {hidden} in a hidden width of {architecture.ffn_width}")
    reader = _Reader(model, hidden)
    shapes = {name: stored.shape for name, stored in model.tensors.items()}
    shapes.setdefault("head", shapes["embedding"])
    tensors = {name: StoredTensor(shape, partial(reader.read, name))
               for name, shape in shapes.items()}
    return Model(dataclasses.replace(architecture, tied_embeddings=False, hidden_rotation=hidden),
                 tensors, model.source, model.label)


class _Reader:
    """Rotates a model's tensors as they are read."""

    def __init__(self, model: Model, hidden: int) -> None:
        self.model, self.hidden = model, hidden
        self.residual = Rotation(model.architecture.width, RESIDUAL_SEED)
        self.value = Rotation(model.architecture.head_width, VALUE_SEED)

    def read(self, name: str, rows: slice | Ints) -> Floats:
        """Some rows of the rotated tensor."""
        model = self.model
        if name in ("embedding", "position_embedding"):
            return self.residual(model.tensors[name].read(rows))
        if name == "head":
            stored = model.tensors["embedding" if model.architecture.tied_embeddings else "head"]
            return self.residual(stored.read(rows) * model.tensor("final_norm"))
        owner, _, kind = name.rpartition(".")
        linear = owner.rpartition(".")[2]
        if linear in LINEARS and kind == "weight":
            return self.weight(owner.removesuffix(linear), linear, rows)
        if linear in ("o", "down"):
            return self.residual(model.tensor(name))[rows]
        if linear == "v":
            return self.value(model.tensor(name))[rows]
        if kind in FOLDED:
            return np.ones(model.architecture.width, np.float32)[rows]
        return model.tensors[name].read(rows)

    def weight(self, prefix: str, linear: str, rows: slice | Ints) -> Floats:
        """Some rows of a linear's rotated weight."""
        stored = self.model.tensors[f"{prefix}{linear}.weight"]
        if linear in NORM_OF:
            norm = self.model.tensor(prefix + NORM_OF[linear])
            if linear != "v":
                return self.residual(stored.read(rows) * norm)
            return self.value.of_outputs(self.residual(stored.read(slice(None)) * norm))[rows]
        weight = stored.read(slice(None))
        if linear == "o":
            weight = self.value(weight)
        elif self.hidden:
            weight = hadamard_blocks(weight, self.hidden)
        return self.residual.of_outputs(weight)[rows]
