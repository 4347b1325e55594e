"""Decoder layers whose linears have quantized weights that are trained."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from compiler.float_layer import layer_weights
from compiler.model import Floats, Model
from compiler.quant.weights import QuantizedWeights
from compiler.refine.parameters import VectorParameters, parameters_of
from compiler.refine.torch_layer import TorchLayer
from hw.fixed import Ints

Places = Mapping[str, Ints]


class TrainedLinear(torch.nn.Module):
    """A linear with quantized weights between rows and columns of the model's order.

    rows: the model's row at each row of the weights, -1 where there is none; columns: the model's
    input at each of theirs; None for the model's own order.
    """

    def __init__(self, weights: QuantizedWeights, bias: Floats | None, rows: Ints | None,
                 columns: Ints | None, device: torch.device, moving: bool) -> None:
        super().__init__()
        self.inner = parameters_of(weights, device, moving)
        self.bias = None if bias is None else torch.tensor(bias, device=device)
        self.rows, self.columns, self.there = None, None, None
        if rows is not None and not np.array_equal(rows, np.arange(len(rows))):
            places = np.flatnonzero(rows >= 0)
            self.rows = torch.tensor(places[np.argsort(rows[places])], device=device)
        if columns is not None and not np.array_equal(columns, np.arange(len(columns))):
            self.columns = torch.tensor(np.maximum(columns, 0), device=device)
            self.there = torch.tensor(columns >= 0, device=device)

    def forward(self, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """float32 [B, T, M] of float32 [B, T, D]; the product is of ``dtype``."""
        if self.columns is not None:
            x = x[..., self.columns] * self.there
        y: torch.Tensor = self.inner(x.flatten(0, 1).to(dtype)).unflatten(0, x.shape[:2])
        if self.rows is not None:
            y = y[..., self.rows]
        return y if self.bias is None else y + self.bias


class FixedLinear(torch.nn.Module):
    """A linear in float."""

    def __init__(self, weight: Floats, bias: Floats | None, device: torch.device) -> None:
        super().__init__()
        self.weight = torch.tensor(weight, device=device)
        self.bias = None if bias is None else torch.tensor(bias, device=device)

    def forward(self, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """As `TrainedLinear.forward`."""
        y = (x.to(dtype) @ self.weight.to(dtype).T).float()
        return y if self.bias is None else y + self.bias


class DecoderLayer(torch.nn.Module):
    """One layer of a model.

    weights: quantized weights by linear, those that are not there stay float; rows, columns: by
    linear, as `TrainedLinear`. moving: indices of vectors are trained too; norms: norm weights and
    biases are parameters.
    """

    def __init__(self, model: Model, index: int, weights: Mapping[str, QuantizedWeights],
                 rows: Places, columns: Places, parts: TorchLayer, device: torch.device,
                 dtype: torch.dtype, moving: bool = False, norms: bool = False) -> None:
        super().__init__()
        self.parts, self.dtype = parts, dtype
        tensors = layer_weights(model, index)
        self.linears = torch.nn.ModuleDict()
        for name in model.architecture.linears:
            bias = tensors.get(f"{name}.bias")
            if name in weights:
                self.linears[name] = TrainedLinear(weights[name], bias, rows.get(name),
                                                   columns.get(name), device, moving)
            else:
                self.linears[name] = FixedLinear(tensors[f"{name}.weight"], bias, device)
        self.names = [name for name in tensors if name.split(".")[0] not in self.linears]
        self.norms = torch.nn.ParameterList(
            torch.nn.Parameter(torch.tensor(tensors[name], device=device), requires_grad=norms)
            for name in self.names)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Residual behind the layer, float32 [B, T, width]."""
        return self.parts.run(dict(zip(self.names, self.norms, strict=True)),
                              lambda name, inputs: self.linears[name](inputs, self.dtype),
                              x, self.dtype)

    def choose(self) -> None:
        """Choose moving indices anew."""
        for linear in self.linears.values():
            if isinstance(linear, TrainedLinear) and isinstance(linear.inner, VectorParameters):
                linear.inner.choose()

    def made(self) -> dict[str, QuantizedWeights]:
        """The quantized weights as they are now, by linear."""
        return {name: linear.inner.made() for name, linear in self.linears.items()
                if isinstance(linear, TrainedLinear)}

    def made_norms(self) -> dict[str, Floats]:
        """The norms as they are now, by name."""
        return {name: norm.detach().cpu().numpy()
                for name, norm in zip(self.names, self.norms, strict=True)}


def float_layer(model: Model, index: int, parts: TorchLayer, device: torch.device) -> DecoderLayer:
    """Layer ``index`` in float32."""
    return DecoderLayer(model, index, {}, {}, {}, parts, device, torch.float32)


def layer_of(weights: Mapping[tuple[int, str], QuantizedWeights],
             index: int) -> dict[str, QuantizedWeights]:
    """The weights of one layer by linear."""
    return {linear: made for (layer, linear), made in weights.items() if layer == index}

