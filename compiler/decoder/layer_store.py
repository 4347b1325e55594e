"""Keeps quantized layers: in memory, or in a temporary folder where they are many bytes."""

from __future__ import annotations

import pickle
import shutil
import tempfile
import weakref
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np

from compiler.decoder.quantized import QuantizedLayer

MEMORY_BYTES = 2 << 30


def array_bytes(value: object) -> int:
    """Bytes of all arrays in a value made of dataclasses, mappings and arrays."""
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if isinstance(value, dict):
        return sum(array_bytes(part) for part in value.values())
    if is_dataclass(value):
        return sum(array_bytes(getattr(value, part.name)) for part in fields(value))
    return 0


class LayerStore:
    """Layers by index; those beyond ``memory_bytes`` are written to files and read when asked for.

    The files are removed with the store. The last layer read from a file is kept.
    """

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self.memory_bytes = memory_bytes
        self.kept: list[QuantizedLayer | Path] = []
        self.used_bytes = 0
        self.folder: Path | None = None
        self.last: tuple[int, QuantizedLayer] | None = None

    def append(self, layer: QuantizedLayer) -> None:
        """Keep the next layer."""
        self.used_bytes += array_bytes(layer)
        if self.used_bytes <= self.memory_bytes:
            self.kept.append(layer)
            return
        if self.folder is None:
            self.folder = Path(tempfile.mkdtemp(prefix="lutrip-"))
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        path = self.folder / f"layer-{len(self.kept)}.pickle"
        with path.open("wb") as file:
            pickle.dump(layer, file, protocol=pickle.HIGHEST_PROTOCOL)
        self.kept.append(path)

    def __call__(self, index: int) -> QuantizedLayer:
        """Layer ``index``."""
        kept = self.kept[index]
        if isinstance(kept, QuantizedLayer):
            return kept
        if self.last is None or self.last[0] != index:
            with kept.open("rb") as file:
                layer = pickle.load(file)
            assert isinstance(layer, QuantizedLayer)
            self.last = index, layer
        return self.last[1]
