"""What a refinement does and what it gives back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from compiler.errors import CompileError
from compiler.model import Floats, Model, StoredTensor
from compiler.quant.weights import QuantizedWeights
from hw.fixed import Ints

Weights = Mapping[tuple[int, str], QuantizedWeights]
"""Quantized weights by (layer, linear)."""
PRECISIONS = ("bfloat16", "float32")


@dataclass(frozen=True, kw_only=True)
class RefineSettings:
    """How quantized weights are trained.

    blockwise_epochs: passes over the windows for each layer alone, first; distill_epochs: passes
    over the windows for the whole model, afterwards; 0 leaves a stage out.
    blockwise_rate, distill_rate: largest step of Adam, as a part of a codebook's root mean square
    or of a scale; batch: windows of a step. index_rate: of indices, over the rate of codebooks; 0
    keeps indices. norms: norms are trained too, by distilling. precision: of the products
    (bfloat16 or float32); device: of torch, or auto. recompute: a layer's activations are computed
    again for its gradient, which saves memory.
    """

    blockwise_epochs: int = 0
    distill_epochs: int = 12
    blockwise_rate: float = 5e-3
    distill_rate: float = 5e-3
    batch: int = 1
    index_rate: float = 0.0
    norms: bool = False
    precision: str = "bfloat16"
    device: str = "auto"
    recompute: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("blockwise_epochs", "distill_epochs", "index_rate", "seed"):
            if (value := getattr(self, name)) < 0:
                raise CompileError(f"refine: {name} must not be negative, not {value}")
        for name in ("blockwise_rate", "distill_rate", "batch"):
            if (value := getattr(self, name)) <= 0:
                raise CompileError(f"refine: {name} must be positive, not {value}")
        if self.precision not in PRECISIONS:
            raise CompileError(f"refine: precision must be {' or '.join(PRECISIONS)}, not "
                               f"{self.precision!r}")


@dataclass(frozen=True, kw_only=True)
class Refined:
    """Weights of the same shape as before, and the model's tensors that take another value.

    tensors: norms by the names of `compiler.model`, empty unless they were trained.
    """

    weights: dict[tuple[int, str], QuantizedWeights]
    tensors: dict[str, Floats] = field(default_factory=dict)

    def layer(self, index: int) -> dict[str, QuantizedWeights]:
        """Weights of one layer by linear."""
        return {linear: made for (layer, linear), made in self.weights.items() if layer == index}

    def model(self, model: Model) -> Model:
        """The model with the tensors that were trained."""
        tensors = {name: StoredTensor(value.shape, value.__getitem__)
                   for name, value in self.tensors.items()}
        return replace(model, tensors=dict(model.tensors) | tensors)


def digest(source: str, settings: RefineSettings, weights: Weights,
           windows: Sequence[Ints]) -> str:
    """Hash of everything that a refinement starts from."""
    made = hashlib.sha256(f"{source} {settings}".encode())
    for key in sorted(weights):
        made.update(repr(key).encode())
        for name, value in vars(weights[key]).items():
            made.update(name.encode())
            made.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    for window in windows:
        made.update(np.asarray(window, np.int64).tobytes())
    return made.hexdigest()[:16]
