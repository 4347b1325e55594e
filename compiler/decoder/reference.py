"""Residuals of the float model on a text, layer by layer: what golden is measured against."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from compiler import float_layer
from compiler.expression import Floats
from compiler.model import Model
from hw.fixed import Ints


class FloatReference:
    """Residual of all windows behind any number of layers, float32 [tokens, width].

    parts: token ids of each window. folder: keeps every residual, each file whole or not there, so
    that other schemes and later runs take them over; None keeps only the last one. Its name must
    stand for the model and the tokens. step is told of every window of a layer.
    """

    def __init__(
        self, model: Model, parts: Sequence[Ints], folder: Path | None = None,
        step: Callable[[], None] = lambda: None,
    ) -> None:
        self.model, self.parts, self.folder, self.step = model, parts, folder, step
        self.ends = np.cumsum([len(part) for part in parts])[:-1]
        self.shape = (sum(len(part) for part in parts), model.architecture.width)
        self.last: tuple[int, Floats] | None = None

    def behind(self, layers: int) -> Floats:
        """Residual behind the first so many layers; 0: the embedding."""
        start, state = self._nearest(layers)
        for index in range(start, layers):
            state = self._layer(index, state)
            self._keep(index + 1, state)
        self.last = layers, state
        return state

    def windows(self, state: Floats) -> list[Floats]:
        """The residual of each window."""
        return np.split(state, self.ends)

    def _layer(self, index: int, state: Floats) -> Floats:
        weights, done = float_layer.layer_weights(self.model, index), []
        for part in self.windows(state):
            done.append(float_layer.run_layer(self.model.architecture, weights, part)[0])
            self.step()
        return np.concatenate(done)

    def _nearest(self, layers: int) -> tuple[int, Floats]:
        """The deepest residual that is known, at most the one asked for."""
        if self.last is not None and self.last[0] == layers:
            return self.last
        for count in range(layers, 0, -1):
            if self.last is not None and self.last[0] == count:
                return self.last
            if (state := self._kept(count)) is not None:
                return count, state
        return 0, np.concatenate([float_layer.embed(self.model, part) for part in self.parts])

    def _path(self, layers: int) -> Path:
        assert self.folder is not None
        return self.folder / f"behind-{layers}.npy"

    def _kept(self, layers: int) -> Floats | None:
        if self.folder is None:
            return None
        try:
            state: Floats = np.load(self._path(layers))
        except (OSError, ValueError, EOFError):
            return None
        return state if state.shape == self.shape else None

    def _keep(self, layers: int, state: Floats) -> None:
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(layers)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        with unfinished.open("wb") as file:
            np.save(file, state)
        unfinished.replace(path)
