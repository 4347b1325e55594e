"""Block-wise reconstruction: each layer alone is trained to give the float model's residual.

(Li et al. 2021, "BRECQ: Pushing the Limit of Post-Training Quantization by Block Reconstruction";
Shao et al. 2024, "OmniQuant".) A layer's input is what the refined layers before it give, so that
it also makes good their error. Only one layer is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from compiler import float_layer
from compiler.model import Model
from compiler.quant.weights import QuantizedWeights
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

Progress = Callable[[str], None]


def residual_loss(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Squared error over the squared residual, averaged over tokens.

    The norm behind divides by a token's size, and without that few massive tokens would count.
    """
    error = (made - wanted).square().sum(-1) / wanted.square().sum(-1)
    return error.mean()


def refine_blockwise(
    model: Model, weights: Weights, rows: Mapping[str, Ints], columns: Mapping[str, Ints],
    windows: Sequence[Ints], settings: RefineSettings, progress: Progress, kept: Path | None,
) -> dict[tuple[int, str], QuantizedWeights]:
    """Weights whose layers give nearly the float model's residual; kept: where layers are kept."""
    device, dtype = device_of(settings), dtype_of(settings)
    parts = TorchLayer(model.architecture, max(len(window) for window in windows), device)
    exact = [torch.tensor(float_layer.embed(model, window))[None] for window in windows]
    inputs, first, made = list(exact), 0, dict(weights)
    if (state := load(None if kept is None else kept / "blockwise.pt")) is not None:
        exact, inputs, first = state["exact"], state["inputs"], state["layers"]
    for index in range(model.architecture.layers):
        own = layer_of(weights, index)
        layer = DecoderLayer(model, index, own, rows, columns, parts, device, dtype,
                             moving=settings.index_rate > 0)
        path = None if kept is None else kept / f"layer-{index}.pt"
        if index < first:
            layer.load_state_dict(load(path) or {})
            layer.choose()
        else:
            reference = torch_float_layer(model, index, parts, device)
            with torch.no_grad():
                exact = [reference(x.to(device)).cpu() for x in exact]
            before, after = _train(layer, inputs, exact, windows, settings, device)
            progress(f"refining layer {index + 1} of {model.architecture.layers}: error "
                     f"{before:.4f} -> {after:.4f}")
            with torch.no_grad():
                inputs = [layer(x.to(device)).cpu() for x in inputs]
            save(path, layer.state_dict())
            save(None if kept is None else kept / "blockwise.pt",
                 {"exact": exact, "inputs": inputs, "layers": index + 1})
        made.update({(index, name): part for name, part in layer.made().items()})
    return made


def _train(
    layer: DecoderLayer, inputs: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor],
    windows: Sequence[Ints], settings: RefineSettings, device: torch.device,
) -> tuple[float, float]:
    """Train one layer; its mean loss before and behind."""
    def loss(numbers: list[int]) -> torch.Tensor:
        return residual_loss(layer(torch.cat([inputs[number] for number in numbers]).to(device)),
                             torch.cat([wanted[number] for number in numbers]).to(device))

    trainer = Trainer(layer, loss, windows, settings, settings.blockwise_epochs,
                      settings.blockwise_rate)
    before = trainer.lowest = trainer.measure()
    for epoch in range(settings.blockwise_epochs):
        trainer.epoch(epoch)
    return before, trainer.measure()
