"""Builds: a graph compiled to a memory image with the metadata that explains it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compiler.errors import ImageError
from compiler.image.image import Image, load_image, make_image, write_atomically
from compiler.image.layout import align, unpack_activations
from compiler.image.program import encode_program
from compiler.image.verify import verify_program
from compiler.ir.graph import Graph
from compiler.lower.tile import TensorTile, tile_graph
from compiler.lower.tokens import assign_tokens
from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.isa import INSTRUCTION_BYTES, LINE_BYTES

IMAGE_FILE = "image.bin"
METADATA_FILE = "build.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Build:
    """An image and the metadata of `build.json` (see `docs/image-format.md`)."""

    image: Image
    metadata: Mapping[str, Any]

    @property
    def hardware(self) -> HardwareConfig:
        """Hardware that the build is for."""
        return HardwareConfig(**self.metadata["hardware"])

    @property
    def instruction_ops(self) -> Sequence[str]:
        """Name of the operation of every instruction."""
        ops: Sequence[str] = self.metadata["instructions"]
        return ops

    def outputs(self, memory: bytes) -> dict[str, Ints]:
        """Output tensors int16 [T, M] in a memory after the run."""
        result: dict[str, list[Ints]] = {}
        for name, tensor in self.metadata["outputs"].items():
            for tile in tensor["tiles"]:
                start = tile["address"]
                rows = unpack_activations(
                    memory[start:], tile["tokens"][1] - tile["tokens"][0], tensor["words"],
                    self.hardware)
                result.setdefault(name, []).append(rows[:, :tensor["shape"][1]])
        return {name: np.concatenate(rows) for name, rows in result.items()}


def compile_graph(
    graph: Graph, hardware: HardwareConfig, metadata: Mapping[str, Any] | None = None
) -> Build:
    """Tile, encode and verify a graph; ``metadata`` is added to the build's.

    Raises CompileError when the hardware cannot hold it.
    """
    tiled = tile_graph(graph, hardware)
    program_bytes = align((len(tiled.tasks) + 1) * INSTRUCTION_BYTES, LINE_BYTES)
    sizes = {name: len(data) for name, data in {**tiled.constants, **tiled.inputs}.items()}
    sizes |= {name: align(size, LINE_BYTES) for name, size in tiled.outputs.items()}
    empty = {"program": bytes(program_bytes), "constants": b"", "activations": b"", "outputs": b""}
    addresses, at = {}, make_image(empty, hardware.digest()).sections["constants"].address
    for name, size in sizes.items():
        addresses[name] = at
        at += size
    tasks = assign_tokens(tiled.tasks, addresses, hardware)
    image = make_image({
        "program": encode_program(tasks, addresses),
        "constants": b"".join(tiled.constants.values()),
        "activations": b"".join(tiled.inputs.values()),
        "outputs": bytes(sum(sizes[name] for name in tiled.outputs)),
    }, hardware.digest())
    verify_program(image.data, hardware, image.program_address, image.sections["outputs"])

    def tensors(tiles: Sequence[TensorTile]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for tile in tiles:
            entry = result.setdefault(tile.tensor, {
                "shape": [0, tile.columns], "words": tile.words,
                "scale": graph.scales.get(tile.tensor), "tiles": [],
            })
            entry["shape"][0] = max(entry["shape"][0], tile.last)
            entry["tiles"].append(
                {"tokens": [tile.first, tile.last], "address": addresses[tile.region]})
        return result

    return Build(image=image, metadata={
        **(metadata or {}),
        "format": FORMAT,
        "hardware": dataclasses.asdict(hardware),
        "hardware_digest": hardware.digest(),
        "image_bytes": len(image.data),
        "image_sha256": hashlib.sha256(image.data).hexdigest(),
        "program_address": image.program_address,
        "instructions": [task.op for task in tasks],
        "ops": [{
            "name": op.name, "kind": type(op).__name__,
            "outputs": [{"name": t.name, "shape": list(t.shape), "dtype": t.dtype}
                        for t in op.outputs],
            "cost": dataclasses.asdict(op.cost()),
        } for op in graph.ops],
        "scales": dict(graph.scales),
        "regions": {name: [addresses[name], size] for name, size in sizes.items()},
        "inputs": tensors(tiled.input_tiles),
        "outputs": tensors(tiled.output_tiles),
    })


def write_build(build: Build, path: Path) -> None:
    """Write a build folder; `build.json` comes last, so that a folder that has it is whole."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / METADATA_FILE).unlink(missing_ok=True)
        write_atomically(path / IMAGE_FILE, build.image.data)
        text = json.dumps(build.metadata, indent=1, sort_keys=True) + "\n"
        write_atomically(path / METADATA_FILE, text.encode())
    except OSError as error:
        raise ImageError(f"{path}: cannot write the build: {error.strerror}") from None


def load_build(path: Path) -> Build:
    """Read and check a build folder; raises ImageError in one line."""
    file = path / METADATA_FILE
    try:
        metadata = json.loads(file.read_text())
    except OSError as error:
        raise ImageError(f"{file}: {error.strerror}; compile it with lutrip compile") from None
    except ValueError:
        raise ImageError(f"{file}: not JSON; compile it again") from None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise ImageError(f"{file}: not a build of format {FORMAT}; compile it again")
    image = load_image(path / IMAGE_FILE)
    if hashlib.sha256(image.data).hexdigest() != metadata.get("image_sha256"):
        raise ImageError(f"{path}: {IMAGE_FILE} is not the image that {METADATA_FILE} describes; "
                         "compile it again")
    if image.digest != metadata.get("hardware_digest"):
        raise ImageError(f"{path}: the image is for other hardware than {METADATA_FILE} says; "
                         "compile it again")
    return Build(image=image, metadata=metadata)
