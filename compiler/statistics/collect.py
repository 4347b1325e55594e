"""Statistics of the float model on texts, layer by layer, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from compiler import float_layer
from compiler.errors import CompileError
from compiler.expression import Floats
from compiler.model import Model
from compiler.statistics.massive import FirstTokenMass, MassiveActivations
from compiler.statistics.moments import ChannelStatistics
from compiler.statistics.summary import comparison, input_summary
from hw.fixed import Ints

INPUTS = ("attention_input", "attention_output", "mlp_input", "mlp_hidden")
"""Inputs of q, k and v; of o; of gate and up; of down."""
LINEARS_OF = dict(zip(INPUTS, ("q, k, v", "o", "gate, up", "down"), strict=True))

Arrays = dict[str, Floats]


class LayerStatistics:
    """Of one layer on one text: its linears' inputs, the residual behind it, its sinks."""

    def __init__(self, heads: int) -> None:
        self.inputs: dict[str, ChannelStatistics] = {}
        self.massive = MassiveActivations()
        self.first_token = FirstTokenMass(heads)

    def add(self, model: Model, made: Mapping[str, Floats], behind: Floats, tokens: Ints) -> None:
        """Add a window: the layer's tensors, the residual behind it, its token ids."""
        for name in INPUTS:
            if name not in self.inputs:
                self.inputs[name] = ChannelStatistics(made[name].shape[1])
            self.inputs[name].add(made[name])
        self.massive.add(behind, tokens)
        self.first_token.add(model.architecture, made["q_rotated"], made["k_rotated"])

    def summary(self) -> dict[str, Any]:
        """In numbers."""
        return {"inputs": {name: input_summary(made) for name, made in self.inputs.items()},
                "massive": self.massive.summary(),
                "first_token_mass": self.first_token.by_head()}


def windows_of(model: Model, tokens: Sequence[int], window: int) -> list[Ints]:
    """Calibration windows; a shorter last one counts. Raises CompileError for an empty text."""
    length = window
    if model.architecture.position == "learned":
        length = min(length, float_layer.learned_positions(model))
    windows = [np.asarray(tokens[at:at + length]) for at in range(0, len(tokens), length)]
    if not windows:
        raise CompileError("the calibration text is empty")
    return windows


def layer_statistics(
    model: Model, texts: Mapping[str, Sequence[Ints]], step: Callable[[], None] = lambda: None
) -> Iterator[dict[str, LayerStatistics]]:
    """Of each layer, by text; texts: token windows by name. step is told of every window."""
    architecture = model.architecture
    states = {name: [float_layer.embed(model, window) for window in windows]
              for name, windows in texts.items()}
    for index in range(architecture.layers):
        weights = float_layer.layer_weights(model, index)
        found = {name: LayerStatistics(architecture.heads) for name in texts}
        for name, windows in texts.items():
            for number, window in enumerate(windows):
                state, made = float_layer.run_layer(architecture, weights, states[name][number])
                if not np.isfinite(state).all():
                    raise CompileError(f"{model.source}: the float model overflows in layer "
                                       f"{index} on the text {name}")
                states[name][number] = state
                found[name].add(model, made, state, window)
                step()
        yield found


def collect(
    model: Model, texts: Mapping[str, Sequence[Ints]], step: Callable[[], None] = lambda: None
) -> tuple[list[dict[str, Any]], Arrays]:
    """Summaries of every layer, and per-channel arrays, of the first of the texts.

    The others are compared with it: each layer has ``texts`` with `comparison` by input, and what
    the residual's peak and the first token's mass are. Arrays are named
    ``layers.I.INPUT.lowest``, ``highest``, ``mean_square`` and ``kurtosis``.
    """
    layers: list[dict[str, Any]] = []
    arrays: Arrays = {}
    for index, found in enumerate(layer_statistics(model, texts, step)):
        reference, *others = found
        own = found[reference]
        values = own.summary()
        values["texts"] = {name: _compared(own, found[name]) for name in others}
        layers.append(values)
        for name, made in own.inputs.items():
            prefix = f"layers.{index}.{name}."
            parts = {"lowest": made.lowest, "highest": made.highest,
                     "mean_square": np.diagonal(made.hessian) / made.known.count,
                     "kurtosis": made.known.kurtosis}
            arrays |= {prefix + part: array.astype(np.float32) for part, array in parts.items()}
    return layers, arrays


def _compared(reference: LayerStatistics, other: LayerStatistics) -> dict[str, Any]:
    return {
        "inputs": {name: comparison(made, other.inputs[name])
                   for name, made in reference.inputs.items()},
        "residual_peak": other.massive.summary()["peak"],
        "first_token_mass": float(np.mean(other.first_token.by_head())),
    }
