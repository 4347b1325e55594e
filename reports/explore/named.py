"""What the names in a study stand for, read once, so that it can travel with the study."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from compiler.own_blocks import NamedModel, named_model
from compiler.quant.scheme import SchemeMap, load_scheme
from hw.config import HardwareConfig
from hw.presets import load_hardware
from sim.memory_presets import MemoryPreset, load_memory

LOADERS: dict[str, Callable[[str], Any]] = {
    "hardware": load_hardware, "scheme": load_scheme, "memory": load_memory,
    "model": named_model}


class Named:
    """Hardware, schemes, memories and models by name or file.

    What is asked for the first time is read, unless these are `closed`: then they are complete, and
    no file is looked at. Lookups raise LutripError in one line.
    """

    def __init__(self, read: Mapping[tuple[str, str], Any] | None = None) -> None:
        """read: what there is, by kind and name, of closed ones."""
        self._read = dict(read or {})
        self._closed = read is not None

    def get(self, kind: str, name: str) -> Any:
        """What a name of a kind stands for."""
        if (kind, name) not in self._read:
            assert not self._closed, f"{kind} {name} did not travel"
            self._read[kind, name] = LOADERS[kind](name)
        return self._read[kind, name]

    def hardware(self, name: str) -> HardwareConfig:
        """Hardware by name or file."""
        found: HardwareConfig = self.get("hardware", name)
        return found

    def scheme(self, name: str) -> SchemeMap:
        """Scheme by name or file."""
        found: SchemeMap = self.get("scheme", name)
        return found

    def memory(self, name: str) -> MemoryPreset:
        """Memory by name or file."""
        found: MemoryPreset = self.get("memory", name)
        return found

    def model(self, name: str) -> NamedModel:
        """Sizes of a model and the blocks of its file, by name, file or shape."""
        found: NamedModel = self.get("model", name)
        return found

    def closed(self) -> Named:
        """What was read so far, and nothing else."""
        return Named(self._read)
