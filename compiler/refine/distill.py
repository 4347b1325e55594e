"""End-to-end distillation: the whole quantized model is trained towards the float model's logits.

The loss is the KL divergence from the float model over the calibration windows, as the fine-tuning
of QuIP# (Tseng et al. 2024) and AQLM (Egiazarian et al. 2024) has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from compiler import float_layer
from compiler.model import Floats, Model
from compiler.quant.weights import QuantizedWeights
from compiler.refine.blockwise import Progress
from compiler.refine.settings import RefineSettings, Weights
from compiler.refine.stages import (
    Trainer,
    device_of,
    dtype_of,
    load,
    save,
)
from compiler.refine.torch_layer import TorchLayer
from compiler.refine.trained import DecoderLayer, layer_of
from compiler.refine.trained import float_layer as torch_float_layer
from hw.fixed import Ints

LOGIT_ROWS = 128
"""Tokens whose logits are in memory at once."""


class Divergence(torch.autograd.Function):
    """Mean KL divergence of logits from ``teacher``'s: hidden, teacher [T, D], head [V, D]."""

    @staticmethod
    def forward(context: Any, hidden: torch.Tensor, teacher: torch.Tensor,
                head: torch.Tensor) -> torch.Tensor:
        total = torch.zeros((), device=hidden.device)
        gradients = []
        for x, exact in zip(hidden.split(LOGIT_ROWS), teacher.split(LOGIT_ROWS), strict=True):
            log_made, log_wanted = (torch.log_softmax((part.to(head.dtype) @ head.T).float(), 1)
                                    for part in (x, exact))
            wanted = log_wanted.exp()
            total += (wanted * (log_wanted - log_made)).sum()
            gap = log_made.exp_() - wanted
            gradients.append((gap.to(head.dtype) @ head).float())
        context.save_for_backward(torch.cat(gradients) / len(hidden))
        return total / len(hidden)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return gradient * context.saved_tensors[0], None, None


class TrainedDecoder(torch.nn.Module):
    """All layers and the final norm."""

    def __init__(self, model: Model, weights: Weights, rows: Mapping[str, Ints],
                 columns: Mapping[str, Ints], parts: TorchLayer, settings: RefineSettings) -> None:
        super().__init__()
        device, dtype = device_of(settings), dtype_of(settings)
        self.parts, self.recompute = parts, settings.recompute
        self.layers = torch.nn.ModuleList(
            DecoderLayer(model, index, layer_of(weights, index), rows, columns, parts, device,
                         dtype, settings.index_rate > 0, settings.norms)
            for index in range(model.architecture.layers))
        self.names = [name for name in ("final_norm", "final_norm.bias") if model.has(name)]
        self.norms = torch.nn.ParameterList(
            torch.nn.Parameter(torch.tensor(model.tensor(name), device=device),
                               requires_grad=settings.norms) for name in self.names)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Input of the head, float32 [B, T, width], of embeddings."""
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False) if self.recompute else layer(x)
        return self.parts.norm(x, *self.norms, *[None] * (2 - len(self.norms)))

    def choose(self) -> None:
        """Choose moving indices anew."""
        for layer in self.layers:
            layer.choose()

    def made(self) -> dict[tuple[int, str], QuantizedWeights]:
        """The quantized weights as they are now."""
        return {(index, name): part for index, layer in enumerate(self.layers)
                for name, part in layer.made().items()}

    def made_norms(self) -> dict[str, Floats]:
        """The norms as they are now, by the model's names."""
        made = {f"layers.{index}.{name}": part for index, layer in enumerate(self.layers)
                for name, part in layer.made_norms().items()}
        return made | {name: part.detach().cpu().numpy()
                       for name, part in zip(self.names, self.norms, strict=True)}


def float_hidden(model: Model, windows: Sequence[Ints], parts: TorchLayer,
                 device: torch.device) -> list[torch.Tensor]:
    """The float model's input of the head of each window, float32 [T, width]."""
    states = [torch.tensor(float_layer.embed(model, window))[None] for window in windows]
    with torch.no_grad():
        for index in range(model.architecture.layers):
            layer = torch_float_layer(model, index, parts, device)
            states = [layer(x.to(device)).cpu() for x in states]
    return [torch.tensor(float_layer.final_hidden(model, x[0].numpy())) for x in states]


def distill(
    model: Model, weights: Weights, rows: Mapping[str, Ints], columns: Mapping[str, Ints],
    windows: Sequence[Ints], settings: RefineSettings, progress: Progress, kept: Path | None,
) -> tuple[dict[tuple[int, str], QuantizedWeights], dict[str, Floats]]:
    """Weights (and norms, if they are trained) of a model whose logits are nearly the float one's.

    kept: where the state behind each epoch is kept.
    """
    device = device_of(settings)
    parts = TorchLayer(model.architecture, max(len(window) for window in windows), device)
    progress("distilling: float model")
    teacher = float_hidden(model, windows, parts, device)
    embedded = [torch.tensor(float_layer.embed(model, window)) for window in windows]
    head = torch.tensor(model.tensor("head"), device=device).to(dtype_of(settings))
    decoder = TrainedDecoder(model, weights, rows, columns, parts, settings)

    def loss(numbers: list[int]) -> torch.Tensor:
        x = torch.stack([embedded[number] for number in numbers]).to(device)
        wanted = torch.cat([teacher[number] for number in numbers]).to(device)
        made: torch.Tensor = Divergence.apply(decoder(x).flatten(0, 1), wanted, head)
        return made

    epochs = settings.distill_epochs
    trainer = Trainer(decoder, loss, windows, settings, epochs, settings.distill_rate)
    first, path = 0, None if kept is None else kept / "distill.pt"
    if (state := load(path)) is not None:
        trainer.resume(state["trainer"])
        first = state["epochs"]
    else:
        trainer.lowest = trainer.measure()
        progress(f"distilling: divergence {trainer.lowest:.4f}")
    for epoch in range(first, epochs):
        lowest = trainer.epoch(epoch)
        progress(f"distilling: epoch {epoch + 1} of {epochs}, divergence {lowest:.4f}")
        save(path, {"trainer": trainer.state(), "epochs": epoch + 1})
    return decoder.made(), decoder.made_norms() if settings.norms else {}
