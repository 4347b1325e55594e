"""Sensitivities of a whole model, layer by layer; kept in a folder, so that a run resumes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compiler import float_layer
from compiler.decoder.golden import GoldenDecoder
from compiler.decoder.layer import LayerContext
from compiler.decoder.quantize import WINDOW, quantize_decoder
from compiler.decoder.quantized import QuantizedDecoder
from compiler.decoder.weight_store import content_key, write_arrays
from compiler.errors import CompileError
from compiler.expression import Floats
from compiler.image.image import write_atomically
from compiler.mixed.costs import LinearCost
from compiler.mixed.counters import Timing
from compiler.mixed.sensitivity import LayerInputs, LayerSensitivity, Sensitivity
from compiler.mixed.spread import Place, losses_of_errors
from compiler.model import LINEARS, Model
from compiler.quant.scheme import Scheme, SchemeMap
from compiler.rotation import rotated_model
from hw.config import HardwareConfig
from hw.fixed import Ints

FORMAT = 1
LOSSES = "losses.json"

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is measured.

    options: a scheme map whose options that concern no linear all candidates share. calibration,
    unseen: tokens; unseen ones are not among the first. tokens: of the pass that costs are for.
    """

    model: Model
    hardware: HardwareConfig
    candidates: Mapping[str, Scheme]
    options: SchemeMap
    calibration: Sequence[int]
    unseen: Sequence[int]
    tokens: int
    timing: Timing

    def key(self) -> str:
        """Hash of everything the answer depends on."""
        options = dataclasses.replace(self.options, name="", layers={})
        return content_key(
            FORMAT, self.model.source, self.model.architecture, dataclasses.asdict(self.hardware),
            sorted(self.candidates.items()), options, list(self.calibration), list(self.unseen),
            self.tokens, self.timing)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Sensitivities by layer, and the loss of the errors with the median ``output``."""

    layers: Sequence[Sequence[Sensitivity]]
    losses: Mapping[Place, float]


class LayerFiles:
    """Sensitivities and errors of each layer in a folder; those of another question are ignored."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key
        folder.mkdir(parents=True, exist_ok=True)

    def _read(self, name: str) -> Any:
        try:
            value = json.loads((self.folder / name).read_text())
        except (OSError, ValueError):
            return None
        return value["value"] if isinstance(value, dict) and value.get("key") == self.key else None

    def _write(self, name: str, value: Any) -> None:
        text = json.dumps({"key": self.key, "value": value}, indent=1) + "\n"
        write_atomically(self.folder / name, text.encode())

    def sensitivities(self, layer: int) -> list[Sensitivity] | None:
        """Those of a layer, None where it is not measured."""
        rows = self._read(f"layer-{layer}.json")
        if rows is None or not (self.folder / f"layer-{layer}.npz").is_file():
            return None
        return [Sensitivity(**row | {"cost": LinearCost(**row["cost"])}) for row in rows]

    def errors(self, layer: int) -> dict[str, Floats]:
        """Errors of the residual by linear."""
        with np.load(self.folder / f"layer-{layer}.npz") as file:
            return {name: file[name] for name in file.files}

    def keep(self, layer: int, found: Sequence[Sensitivity], errors: Mapping[str, Floats]) -> None:
        """Write a layer's; the sensitivities last."""
        write_arrays(self.folder / f"layer-{layer}.npz", errors)
        self._write(f"layer-{layer}.json", [dataclasses.asdict(row) for row in found])

    def losses(self) -> dict[Place, float] | None:
        """Losses of the errors, None where they are not found."""
        rows = self._read(LOSSES)
        return None if rows is None else {(layer, linear): loss for layer, linear, loss in rows}

    def keep_losses(self, losses: Mapping[Place, float]) -> None:
        """Write the losses."""
        self._write(LOSSES, [[layer, linear, loss] for (layer, linear), loss in losses.items()])


def measure(question: Question, folder: Path, progress: Progress = lambda text: None) -> Measured:
    """Answer a question; what the folder holds of an earlier run is taken over.

    Raises CompileError in one line for a candidate that the hardware cannot run.
    """
    if not question.candidates:
        raise CompileError("a mix needs at least one candidate scheme")
    if len(question.unseen) < 2:
        raise CompileError("the text that sensitivities are measured on has less than 2 tokens")
    files = LayerFiles(folder, question.key())
    model = rotated_model(question.model, question.options, question.hardware)
    count = model.architecture.layers
    done = [files.sensitivities(index) for index in range(count)]
    base: QuantizedDecoder | None = None
    if None in done or files.losses() is None:
        plain = dataclasses.replace(question.options, rotation="none", token_rule=None, layers={})
        base = quantize_decoder(model, plain, question.hardware, question.calibration,
                                len(question.unseen), exact=True, progress=progress)
        _measure_layers(question, model, plain, base, files, progress)
        done = [files.sensitivities(index) for index in range(count)]
    losses = files.losses()
    if losses is None:
        assert base is not None
        step = base.residual_scale
        losses = losses_of_errors(
            model, np.asarray(question.unseen),
            lambda index: {name: error * np.float32(step)
                           for name, error in files.errors(index).items()}, progress)
        files.keep_losses(losses)
    layers = [layer for layer in done if layer is not None]
    assert len(layers) == count
    return Measured(layers=layers, losses=losses)


def _measure_layers(
    question: Question, model: Model, plain: SchemeMap, base: QuantizedDecoder,
    files: LayerFiles, progress: Progress,
) -> None:
    """Fill the folder."""
    context = LayerContext(
        architecture=model.architecture, scheme=plain, hardware=question.hardware,
        capacity=len(question.unseen), residual_scale=base.residual_scale,
        stride=base.head_stride, exact=True)
    measuring = LayerSensitivity(
        context, GoldenDecoder(base), question.candidates, question.tokens, question.timing,
        progress)
    for inputs in _layers(question, model, base.residual_scale):
        if files.sensitivities(inputs.index) is None:
            files.keep(inputs.index, *measuring.measure(inputs))


def _layers(question: Question, model: Model, step: float) -> Iterator[LayerInputs]:
    """Inputs of every layer from a float run over both texts; one layer in memory at a time."""
    length = WINDOW
    if model.architecture.position == "learned":
        length = min(length, float_layer.learned_positions(model))
    calibration = [
        float_layer.embed(model, np.asarray(question.calibration[at:at + length]))
        for at in range(0, len(question.calibration), length)]
    unseen = float_layer.embed(model, np.asarray(question.unseen))
    for index in range(model.architecture.layers):
        weights = float_layer.layer_weights(model, index)
        ends = [float_layer.run_layer(model.architecture, weights, x) for x in calibration]
        blocks = {name: model.blocks(f"layers.{index}.{name}.weight") for name in LINEARS
                  if f"{name}.weight" in weights}
        yield LayerInputs(
            model=model, index=index, weights=weights, blocks=blocks, states=calibration,
            made={name: np.concatenate([made[name] for _, made in ends])
                  for name in ends[0][1]},
            unseen=_steps(unseen, step))
        calibration = [x for x, _ in ends]
        unseen, _ = float_layer.run_layer(model.architecture, weights, unseen)


def _steps(x: Floats, step: float) -> Ints:
    """Residual int32 in steps."""
    steps: Ints = np.round(x.astype(np.float64) / step).astype(np.int32)
    return steps
