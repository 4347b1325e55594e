"""Quantized weights of a decoder on disk, layer by layer, so that quantizing resumes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from compiler.expression import Floats
from compiler.quant.weights import GroupedWeights, QuantizedWeights, VectorWeights

KINDS: dict[str, type[Any]] = {"grouped": GroupedWeights, "vector": VectorWeights}
STATES = "states.npz"


def content_key(*parts: object) -> str:
    """Hash of everything that quantized weights depend on; bytes, arrays or their repr."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:20]


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """A .npz that is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("wb") as file:
        np.savez(file, **arrays)
    unfinished.replace(path)


class WeightStore:
    """Weights by layer, in a folder, or in memory if there is none."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.kept: list[dict[str, QuantizedWeights]] = []
        self.count = 0
        while folder is not None and self._path(self.count).exists():
            self.count += 1

    def __len__(self) -> int:
        return self.count

    def _path(self, layer: int) -> Path:
        assert self.folder is not None
        return self.folder / f"layer-{layer}.npz"

    def append(
        self, layer: Mapping[str, QuantizedWeights], exact: list[Floats], seen: list[Floats]
    ) -> None:
        """Keep the next layer, and the residuals behind it to go on from."""
        if self.folder is None:
            self.kept.append(dict(layer))
        else:
            write_arrays(self._path(self.count), encoded(layer))
            write_arrays(self.folder / STATES, {
                "layers": np.array(self.count + 1), "lengths": np.array([len(x) for x in exact]),
                "exact": np.concatenate(exact), "seen": np.concatenate(seen)})
        self.count += 1

    def resume(self, exact: list[Floats], seen: list[Floats]) -> int:
        """Replace the residuals by those of an earlier run; returns the layer to go on with."""
        path = None if self.folder is None else self.folder / STATES
        if path is None or not path.exists() or not self.count:
            self.count = 0
            return 0
        try:
            with path.open("rb") as stream, np.load(stream) as file:
                layers, lengths = int(file["layers"]), file["lengths"]
                # The run may have ended between a layer's weights and its states.
                self.count = min(self.count, layers)
                if layers != self.count or lengths.sum() != sum(len(x) for x in exact):
                    raise ValueError
                ends = np.cumsum(lengths)[:-1]
                exact[:], seen[:] = np.split(file["exact"], ends), np.split(file["seen"], ends)
        except (OSError, ValueError, KeyError, BadZipFile):
            self.count = 0
        return self.count

    def __call__(self, layer: int) -> Mapping[str, QuantizedWeights]:
        """Weights of one layer."""
        if self.folder is None:
            return self.kept[layer]
        with np.load(self._path(layer)) as file:
            return decoded({name: file[name] for name in file.files})


def encoded(layer: Mapping[str, QuantizedWeights]) -> dict[str, Any]:
    """Arrays by ``linear/kind/field``; fields that are None are left out."""
    arrays: dict[str, Any] = {}
    for linear, weights in layer.items():
        kind = next(name for name, of in KINDS.items() if isinstance(weights, of))
        for field in fields(weights):
            value = getattr(weights, field.name)
            if value is not None:
                arrays[f"{linear}/{kind}/{field.name}"] = np.asarray(value)
    return arrays


def decoded(arrays: Mapping[str, Any]) -> dict[str, QuantizedWeights]:
    """The layer that was `encoded`."""
    values: dict[tuple[str, str], dict[str, Any]] = {}
    for key, array in arrays.items():
        linear, kind, name = key.split("/")
        part = values.setdefault((linear, kind), {})
        part[name] = array if array.ndim else array.item()
    made: dict[str, QuantizedWeights] = {}
    for (linear, kind), part in values.items():
        of = KINDS[kind]
        made[linear] = of(**{field.name: part.get(field.name) for field in fields(of)})
    return made
