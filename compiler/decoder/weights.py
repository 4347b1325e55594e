"""Weights of a whole decoder, quantized layer by layer on what the quantized layers before give.

Two runs of the calibration text go side by side: the float model, and the model with the weights
that are already quantized, in float arithmetic. Only one layer is in memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from compiler import float_layer
from compiler.decoder import heads
from compiler.decoder.moments import Moments, Sample, corrected, moments
from compiler.decoder.weight_store import WeightStore
from compiler.decoder.work_folder import folder_of, model_digest, weights_version
from compiler.expression import Floats
from compiler.model import Architecture, Model, QuantizedBlocks
from compiler.quant.activation_codebooks import (
    activation_codebooks,
    search_divisors,
    vector_quantized,
)
from compiler.quant.methods import is_calibrated, quantize_weights
from compiler.quant.scheme import Lut2dScheme, Scheme, SchemeMap, SimdScheme
from compiler.quant.simd import runs_native
from compiler.quant.weights import QuantizedWeights, VectorWeights
from hw.fixed import Ints

Progress = Callable[[str], None]


def needs_calibration(model: Model, scheme: SchemeMap) -> bool:
    """Whether any linear's weights come from calibration text."""
    architecture = model.architecture
    return any(is_calibrated(scheme.of(linear, layer))
               for layer in range(architecture.layers) for linear in architecture.linears)


def keeps_floats(scheme: Scheme, blocks: QuantizedBlocks | None) -> bool:
    """Whether stage 2 takes the weights as they are: the file's blocks, or int8 after migration."""
    return isinstance(scheme, SimdScheme) and (
        scheme.weight_bits == 8 or runs_native(blocks, scheme))


class LayerWeights:
    """Quantizes the weights of one layer.

    exact, seen: residuals [T, width] of each window in front of the layer, in the float model and
    in the quantized one; behind `run` they are those behind the layer.
    """

    def __init__(
        self, model: Model, scheme: SchemeMap, stride: int, index: int,
        exact: list[Floats], seen: list[Floats],
    ) -> None:
        self.architecture: Architecture = model.architecture
        self.scheme, self.stride, self.index = scheme, stride, index
        self.exact, self.seen = exact, seen
        self.float_weights = float_layer.layer_weights(model, index)
        self.dense = dict(self.float_weights)
        self.blocks = {name: model.blocks(f"layers.{index}.{name}.weight")
                       for name in self.architecture.linears}
        self.made: dict[str, QuantizedWeights] = {}
        self.centroids: dict[str, Floats] = {}

    def run(self) -> dict[str, QuantizedWeights]:
        """All linears in the order in which data meets them."""
        architecture, floats = self.architecture, self.float_weights
        ends = [float_layer.run_attention(architecture, floats, x) for x in self.exact]
        of_exact, middle = [made for _, made in ends], [end for end, _ in ends]
        of_seen = [float_layer.run_attention(architecture, floats, x)[1] for x in self.seen]
        alike = [np.ones(len(x), np.float32) for x in self.exact]
        x, y = ([made["attention_input"] for made in side] for side in (of_exact, of_seen))
        taken = self.taken(("q", "k", "v"), y, alike)
        for name in "qk":
            self.quantize(name, [moments(samples(x, taken[name], alike))])
        self.quantize("v", self.mixed_moments(of_exact, of_seen, taken["v"]))
        outputs = []
        for n in range(len(y)):
            made = {name: float_layer.linear(self.dense, name, taken[name][n]).reshape(
                len(y[n]), -1, architecture.head_width) for name in "qkv"}
            float_layer.attend(architecture, floats, made)
            outputs.append(made["attention_output"])
        self.add_to_residual("o", [made["attention_output"] for made in of_exact], outputs, middle)
        ends = [float_layer.run_mlp(architecture, floats, state) for state in middle]
        of_exact = [made for _, made in ends]
        x = [made["mlp_input"] for made in of_exact]
        y = [float_layer.normalized(architecture, state, floats["mlp_norm"],
                                    floats.get("mlp_norm.bias")) for state in self.seen]
        names = ("gate", "up") if architecture.gated else ("up",)
        taken = self.taken(names, y, alike)
        for name in names:
            self.quantize(name, [moments(samples(x, taken[name], alike))])
        hidden = [float_layer.hidden(architecture, {
            name: float_layer.linear(self.dense, name, taken[name][n]) for name in names})
            for n in range(len(y))]
        self.add_to_residual("down", [made["mlp_hidden"] for made in of_exact], hidden,
                             [end for end, _ in ends])
        return self.made

    def taken(
        self, names: Sequence[str], seen: list[Floats], counts: Sequence[Floats]
    ) -> dict[str, list[Floats]]:
        """The windows' input as each linear's scheme takes it: from codebooks under ``lut2d``."""
        by_codes: dict[tuple[object, ...], list[Floats]] = {}
        made = {}
        for name in names:
            scheme = self.scheme.of(name, self.index)
            if not isinstance(scheme, Lut2dScheme) or not is_calibrated(scheme):
                made[name] = seen
                continue
            key = (scheme.vector_length, scheme.act_codes, scheme.metric, scheme.seed)
            sharing = [other for other in names
                       if isinstance(self.scheme.of(other, self.index), Lut2dScheme)]
            if key not in by_codes:
                by_codes[key] = self.searched(scheme, sharing, seen, counts)
            made[name] = by_codes[key]
        return made

    def searched(
        self, scheme: Lut2dScheme, names: Sequence[str], seen: list[Floats],
        counts: Sequence[Floats],
    ) -> list[Floats]:
        """Find the codebooks of an input; the windows with every vector replaced."""
        columns = self.places(names[0])[1]
        placed = [x if columns is None else heads.take(x.T, columns).T for x in seen]
        divisors = np.ones(placed[0].shape[1], np.float32)
        if self.divides(names):
            divisors = search_divisors([self.float_weights[f"{name}.weight"] for name in names],
                                       scheme.vector_length)
        l2 = scheme.metric == "l2"
        centroids = activation_codebooks(
            np.concatenate(placed), np.concatenate(counts), divisors, scheme.vector_length,
            scheme.act_codes, l2, scheme.seed)
        for name in names:
            self.centroids[name] = centroids
        made = [vector_quantized(x, centroids, divisors, l2) for x in placed]
        if columns is None:
            return made
        there = columns >= 0
        back = np.argsort(columns[there])
        return [np.ascontiguousarray(x[:, there][:, back]) for x in made]

    def divides(self, names: Sequence[str]) -> bool:
        """Whether stage 2 can divide the channels of an input: it does so before the codebooks."""
        architecture = self.architecture
        if "down" in names:
            return architecture.gated and not architecture.hidden_rotation
        sharing = {"q", "k", "v"}
        if not sharing & set(names):
            sharing = {"gate", "up"} & set(architecture.linears)
        return "o" not in names and set(names) == sharing

    def add_to_residual(
        self, name: str, x: list[Floats], seen: list[Floats], behind: list[Floats]
    ) -> None:
        """Quantize o or down and step both residuals behind it; a token counts by its size."""
        gaps = [end - float_layer.linear(self.float_weights, name, part) - state
                for end, part, state in zip(behind, x, self.seen, strict=True)]
        counts = [(1 / np.maximum((end.astype(np.float64)**2).mean(axis=1), 1e-12)).astype(
            np.float32) for end in behind]
        taken = self.taken((name,), seen, counts)[name]
        self.quantize(name, [moments(samples(x, taken, counts, gaps))])
        self.seen = [state + float_layer.linear(self.dense, name, part)
                     for state, part in zip(self.seen, taken, strict=True)]
        self.exact = behind

    def mixed_moments(
        self, of_exact: Sequence[Mapping[str, Floats]], of_seen: Sequence[Mapping[str, Floats]],
        taken: Sequence[Floats],
    ) -> list[Moments]:
        """Moments of v's input as attention mixes it, for each key-value head.

        An error of v reaches the model only through the mixture ``sum_j A_ij x_j``, in which the
        first token, an attention sink (Xiao et al., "Efficient Streaming Language Models with
        Attention Sinks"), weighs more than all others.
        """
        def mixed(head: int) -> Iterator[Sample]:
            for exact, seen, x in zip(of_exact, of_seen, taken, strict=True):
                sides = [self._mixed(exact, exact["attention_input"], head),
                         self._mixed(seen, x, head)]
                yield Sample(x=sides[0], seen=sides[1], gap=None,
                             counts=np.ones(len(sides[0]), np.float32))

        return [moments(mixed(head)) for head in range(self.architecture.kv_heads)]

    def _mixed(self, made: Mapping[str, Floats], x: Floats, head: int) -> Floats:
        """Mixed inputs [heads that share it x T, width] of a key-value head."""
        architecture = self.architecture
        group = architecture.heads // architecture.kv_heads
        q = made["q_rotated"][:, head * group:(head + 1) * group]
        weights, _ = float_layer.attention_weights(architecture, q,
                                                   made["k_rotated"][:, head:head + 1])
        mixed: Floats = (weights[0] @ x).reshape(-1, architecture.width)
        return mixed

    def quantize(self, name: str, sums: Sequence[Moments]) -> None:
        """One linear; one of ``sums`` for each equal part of its rows."""
        scheme, key = self.scheme.of(name, self.index), f"{name}.weight"
        if keeps_floats(scheme, self.blocks[name]):
            return
        weight = self.float_weights[key]
        parts = np.split(weight, len(sums))
        target = weight
        if is_calibrated(scheme):
            target = np.concatenate([corrected(part, of)
                                     for part, of in zip(parts, sums, strict=True)])
        rows, columns = self.places(name)
        hessians = np.stack([of.hessian for of in sums])
        placed = heads.take(target, rows)
        if columns is not None:
            placed = np.ascontiguousarray(heads.take(placed.T, columns).T)
            hessians = np.stack([heads.take(heads.take(hessian, columns).T, columns)
                                 for hessian in hessians])
        made = quantize_weights(scheme, placed, hessians)
        if isinstance(made, VectorWeights) and name in self.centroids:
            made = dataclasses.replace(made, centroids=self.centroids[name])
        self.made[name] = made
        self.dense[key] = unplaced(made.dense(), rows, columns, weight.shape)

    def places(self, name: str) -> tuple[Ints, Ints | None]:
        """Row and column of the model's weight at each place of vector memory."""
        return (heads.linear_rows(self.architecture, name, self.stride),
                heads.linear_columns(self.architecture, name, self.stride))


def samples(
    x: Sequence[Floats], seen: Sequence[Floats], counts: Sequence[Floats],
    gaps: Sequence[Floats] | None = None,
) -> Iterator[Sample]:
    """Samples of all windows."""
    for n in range(len(x)):
        yield Sample(x=x[n], seen=seen[n], gap=None if gaps is None else gaps[n],
                     counts=counts[n])


def unplaced(
    placed: Floats, rows: Ints, columns: Ints | None, shape: tuple[int, ...]
) -> Floats:
    """The model's weight from one whose rows and columns lie as in vector memory."""
    if columns is not None:
        by_column = np.zeros((len(placed), shape[1]), np.float32)
        by_column[:, columns[columns >= 0]] = placed[:, columns >= 0]
        placed = by_column
    made = np.zeros(shape, np.float32)
    made[rows[rows >= 0]] = placed[rows >= 0]
    return made


def weight_store(
    model: Model, scheme: SchemeMap, stride: int, windows: Sequence[Ints], work: Path | None
) -> WeightStore:
    """Where the weights are kept: by a name that stands for all that they depend on."""
    if work is None or not needs_calibration(model, scheme):
        return WeightStore()
    architecture = model.architecture
    methods = [weight_key(scheme.of(linear, layer)) for layer in range(architecture.layers)
               for linear in architecture.linears]
    return WeightStore(folder_of(work, "weights", model_digest(model), methods, stride,
                                 np.concatenate(windows).tobytes(), len(windows),
                                 weights_version()))


def weight_key(scheme: Scheme) -> tuple[object, ...]:
    """The part of a scheme that decides its weights."""
    if isinstance(scheme, SimdScheme):
        return (scheme.method, scheme.weight_bits, scheme.group, scheme.asymmetric,
                scheme.native_blocks)
    vectors = (scheme.method, scheme.vector_length, scheme.weight_codes, scheme.group_columns,
               scheme.seed)
    if isinstance(scheme, Lut2dScheme):
        return (*vectors, scheme.act_codes, scheme.metric)
    return vectors


def calibrate_weights(
    model: Model, scheme: SchemeMap, stride: int, windows: Sequence[Ints], store: WeightStore,
    progress: Progress = lambda text: None,
) -> None:
    """Put the weights of every layer into the store; those that are there are taken over.

    windows: token windows of the calibration text; stride: places of a head in vector memory.
    """
    count = model.architecture.layers
    if len(store) == count:
        return
    exact = [float_layer.embed(model, window) for window in windows]
    seen = [state.copy() for state in exact]
    for index in range(store.resume(exact, seen), count):
        progress(f"weights of layer {index + 1} of {count}")
        layer = LayerWeights(model, scheme, stride, index, exact, seen)
        made = layer.run()
        exact, seen = layer.exact, layer.seen
        store.append(made, exact, seen)
