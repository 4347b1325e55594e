"""Builds: a graph compiled to a memory image with the metadata that explains it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compiler.accuracy import layer_errors
from compiler.errors import CompileError, ImageError
from compiler.fit_sums import fit_sums
from compiler.forward import capture_activations
from compiler.image.image import Image, load_image, make_image, write_atomically
from compiler.image.layout import align, unpack_activations
from compiler.image.program import encode_program
from compiler.image.verify import verify_image
from compiler.ir.graph import Graph
from compiler.lower.block import MLP, PROJECTIONS, lower_block
from compiler.lower.linear import Floats
from compiler.lower.tile import TensorTile, tile_graph
from compiler.lower.tokens import assign_tokens
from compiler.model import INPUT_OF, Model
from compiler.quant.quantized import QuantizedLinear
from compiler.quant.quantizer import LinearSpec, quantize_linears
from compiler.quant.scheme import SchemeMap
from compiler.rounded_rows import round_rows
from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.isa import INSTRUCTION_BYTES, LINE_BYTES

IMAGE_FILE = "image.bin"
METADATA_FILE = "build.json"
FORMAT = 2
SECTIONS = ("program", "constants", "activations", "outputs")


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


def region_addresses(
    tasks: int, sizes: Mapping[str, int], hardware: HardwareConfig
) -> dict[str, int]:
    """Byte addresses of regions of whole lines behind a program of ``tasks`` instructions."""
    program_bytes = align((tasks + 1) * INSTRUCTION_BYTES, LINE_BYTES)
    empty = {**dict.fromkeys(SECTIONS, b""), "program": bytes(program_bytes)}
    addresses, at = {}, make_image(empty, hardware.digest()).sections["constants"].address
    for name, size in sizes.items():
        addresses[name] = at
        at += size
    return addresses


def compile_graph(
    graph: Graph, hardware: HardwareConfig, metadata: Mapping[str, Any] | None = None
) -> Build:
    """Tile, encode and verify a graph; ``metadata`` is added to the build's.

    Raises CompileError when the hardware cannot hold it.
    """
    tiled = tile_graph(graph, hardware)
    sizes = {name: len(data) for name, data in {**tiled.constants, **tiled.inputs}.items()}
    sizes |= {name: align(size, LINE_BYTES) for name, size in tiled.outputs.items()}
    addresses = region_addresses(len(tiled.tasks), sizes, hardware)
    tasks = assign_tokens(tiled.tasks, addresses, hardware)
    image = make_image({
        "program": encode_program(tasks, addresses),
        "constants": b"".join(tiled.constants.values()),
        "activations": b"".join(tiled.inputs.values()),
        "outputs": bytes(sum(sizes[name] for name in tiled.outputs)),
    }, hardware.digest())
    verify_image(image, hardware)

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
        "function_errors": dict(graph.function_errors),
        "regions": {name: [addresses[name], size] for name, size in sizes.items()},
        "inputs": tensors(tiled.input_tiles),
        "outputs": tensors(tiled.output_tiles),
    })


def linear_names(parts: Set[str]) -> list[str]:
    """Linear layers of the parts mlp and qkvo; raises CompileError for an unknown part."""
    known = {"qkvo": PROJECTIONS, "mlp": MLP}
    if not parts or not parts <= set(known):
        raise CompileError(f"parts must be some of {', '.join(known)}, "
                           f"not {', '.join(sorted(parts)) or 'none'}")
    return [name for part, names in known.items() if part in parts for name in names]


def quantize_layer(
    model: Model, scheme: SchemeMap, hardware: HardwareConfig, layer: int, names: Sequence[str],
    calibration: Mapping[str, Floats],
) -> dict[str, QuantizedLinear]:
    """Quantized linears of a layer by name (q, k, ..., down).

    calibration: float inputs of every linear, as `capture_activations` returns them.
    """
    prefix = f"layers.{layer}"

    def spec(name: str) -> LinearSpec:
        full = f"{prefix}.{name}"
        bias = model.tensor(f"{full}.bias") if model.has(f"{full}.bias") else None
        return LinearSpec(
            name=full, input_name=f"{prefix}.{INPUT_OF[name]}", scheme=scheme.of(name, layer),
            weight=model.tensor(f"{full}.weight"), bias=bias,
            blocks=model.blocks(f"{full}.weight"))

    inputs = {f"{prefix}.{INPUT_OF[name]}": calibration[name] for name in names}
    quantized = quantize_linears([spec(name) for name in names], inputs, hardware)
    rounded = {name: round_rows(quantized[f"{prefix}.{name}"], calibration[name], hardware)
               for name in names}
    return {name: fit_sums(rounded[name], hardware, f"{prefix}.{name}")
            for name in names}


def compile_block(
    model: Model, scheme: SchemeMap, hardware: HardwareConfig, *, layers: tuple[int, int],
    tokens: Sequence[int], calibration: Sequence[int], parts: Set[str] = frozenset(("mlp", "qkvo")),
) -> Build:
    """Compile linear parts of decoder layers ``layers[0]..layers[1]-1`` on a text's activations.

    tokens: the text whose float activations are the image's inputs; calibration: the text that
    scales and codebooks come from, best another one. The metadata holds the accuracy of golden
    against float. Raises CompileError or FrontendError in one line.
    """
    scheme.check_layers(model.architecture.layers)
    names = linear_names(parts)
    first, last = layers
    if not 0 <= first < last <= model.architecture.layers:
        raise CompileError(f"layers {first}:{last} are not in the model's 0:"
                           f"{model.architecture.layers}")
    quantized: dict[str, dict[str, QuantizedLinear]] = {}
    captured: dict[str, dict[str, Floats]] = {}
    sources: dict[str, Floats] = {}
    for layer in range(first, last):
        prefix = f"layers.{layer}"
        captured[prefix] = capture_activations(model, tokens, layer)
        quantized[prefix] = quantize_layer(model, scheme, hardware, layer, names,
                                           capture_activations(model, calibration, layer))
        sources |= {f"{prefix}.{INPUT_OF[name]}": captured[prefix][name] for name in names}
    graph = lower_block(quantized, sources, model.architecture.activation)
    values = graph.evaluate()
    accuracy: dict[str, float] = {}
    for prefix, linears in quantized.items():
        accuracy |= layer_errors(model, prefix, linears, captured[prefix], graph, values)
    return compile_graph(graph, hardware, {
        "model": model.source,
        "architecture": model.architecture.name,
        "scheme": scheme.name,
        "layers": [first, last],
        "parts": sorted(parts),
        "tokens": [int(token) for token in tokens],
        "linears": {
            f"{prefix}.{name}": {
                "scheme": scheme.of(name, int(prefix.split(".")[1])).name,
                "shape": list(model.architecture.linear_shape(name)),
            } for prefix, linears in quantized.items() for name in linears
        },
        "relative_error": accuracy,
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


def load_metadata(path: Path) -> dict[str, Any]:
    """The build.json of a folder; raises ImageError in one line."""
    file = path / METADATA_FILE
    try:
        metadata = json.loads(file.read_text())
    except OSError as error:
        raise ImageError(f"{file}: {error.strerror}; compile it with lutrip compile") from None
    except ValueError:
        raise ImageError(f"{file}: not JSON; compile it again") from None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise ImageError(f"{file}: not a build of format {FORMAT}; compile it again")
    return metadata


def load_build(path: Path) -> Build:
    """Read and check a build folder; raises ImageError in one line."""
    metadata = load_metadata(path)
    image = load_image(path / IMAGE_FILE)
    if hashlib.sha256(image.data).hexdigest() != metadata.get("image_sha256"):
        raise ImageError(f"{path}: {IMAGE_FILE} is not the image that {METADATA_FILE} describes; "
                         "compile it again")
    if image.digest != metadata.get("hardware_digest"):
        raise ImageError(f"{path}: the image is for other hardware than {METADATA_FILE} says; "
                         "compile it again")
    return Build(image=image, metadata=metadata)
