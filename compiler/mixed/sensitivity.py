"""How much worse one linear in one candidate scheme makes a layer: by Hessian trace, or measured.

Two measures of the same thing, each for every linear and candidate:

- ``trace``: HAWQ-V2 (Dong et al., 2020, section 3.1): the average trace of the Hessian times the
  squared error of the weights. The Hessian is that of the linear's own output error, the second
  moment of its input.
- ``output``: the layer runs in golden on text that nothing was calibrated on, one linear quantized
  and the others float; the squared error of the residual behind the layer over its square,
  averaged over tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compiler.decoder.golden import GoldenDecoder, PreparedLayer
from compiler.decoder.layer import LayerContext, LayerQuantizer
from compiler.decoder.moments import Moments
from compiler.decoder.quantized import QuantizedLayer
from compiler.decoder.weights import LayerWeights
from compiler.expression import Floats
from compiler.float_layer import Weights
from compiler.mixed.costs import LinearCost, linear_cost
from compiler.mixed.counters import Timing
from compiler.model import INPUT_OF, Model, QuantizedBlocks
from compiler.quant.quantizer import LinearSpec, input_key
from compiler.quant.rounding import round_to_nearest
from compiler.quant.scheme import Scheme, SchemeMap, SimdScheme
from compiler.quant.simd import runs_native
from compiler.quant.weights import QuantizedWeights
from hw.fixed import Ints

INT8_BITS = 8


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """One linear of one layer in one candidate scheme.

    trace, output: the measures of `compiler.mixed.sensitivity`. preparation: names the input's
    preparation within the layer; linears with equal ones share it.
    """

    linear: str
    candidate: str
    trace: float
    output: float
    preparation: str
    cost: LinearCost


@dataclass(frozen=True, kw_only=True)
class LayerInputs:
    """What a layer is measured on.

    weights, blocks, made: as for `compiler.decoder.layer.LayerQuantizer`. states: residual in
    front of the layer for each calibration window. unseen: that of text that was not calibrated
    on, int32 steps [T, width].
    """

    model: Model
    index: int
    weights: Weights
    blocks: Mapping[str, QuantizedBlocks | None]
    made: Mapping[str, Floats]
    states: Sequence[Floats]
    unseen: Ints


class OwnWeights(LayerWeights):
    """Quantizes every linear as if it were the only one: its input is the float model's.

    errors: of the weights, by linear, as the model lays them out.
    """

    def __init__(self, context: LayerContext, inputs: LayerInputs) -> None:
        states = list(inputs.states)
        super().__init__(inputs.model, context.scheme, context.stride, inputs.index, states, states)
        self.errors: dict[str, Floats] = {}

    def quantize(self, name: str, sums: Sequence[Moments]) -> None:
        """One linear; the layer behind it goes on with the float weight."""
        super().quantize(name, sums)
        key = f"{name}.weight"
        self.errors[name] = self.dense[key] - self.float_weights[key]
        self.dense[key] = self.float_weights[key]

    def error(self, linear: str) -> Floats:
        """What is wrong with a weight, also where stage 2 rounds it to int8."""
        scheme = self.scheme.of(linear, self.index)
        if linear in self.made or not isinstance(scheme, SimdScheme) or (
                runs_native(self.blocks[linear], scheme)):
            return self.errors[linear]
        return int8_error(self.float_weights[f"{linear}.weight"], scheme.group)


def quantized_layer(
    context: LayerContext, inputs: LayerInputs, ready: Mapping[str, QuantizedWeights]
) -> QuantizedLayer:
    """The layer with every linear both quantized and in float."""
    return LayerQuantizer(dataclasses.replace(context, exact=True, both=True), inputs.index,
                          inputs.weights, inputs.blocks, inputs.made, ready).layer()


def only(layer: QuantizedLayer, linear: str | None) -> PreparedLayer:
    """The layer with one linear quantized and the others float."""
    kept = {} if linear is None else {linear: layer.linears[linear]}
    floats = {name: values for name, values in layer.exact.items() if name != linear}
    return PreparedLayer(dataclasses.replace(layer, linears=kept, exact=floats))


def relative_error(y: Ints, reference: Ints) -> float:
    """Squared error over the reference's square, averaged over tokens."""
    exact = reference.astype(np.float64)
    sizes = np.maximum((exact**2).sum(axis=1), 1e-30)
    return float((((y - exact) ** 2).sum(axis=1) / sizes).mean())


def trace_measure(error: Floats, x: Floats) -> float:
    """HAWQ-V2's measure of a weight's error [M, D]; x: the linear's input [T, D].

    The average trace of ``x^T x / T`` is the mean square of x.
    """
    trace = float((x.astype(np.float64) ** 2).mean())
    return trace * float((error.astype(np.float64) ** 2).sum())


def int8_error(weight: Floats, group: int) -> Floats:
    """What int8 rounding in groups of inputs does to a weight [M, D]."""
    filled = np.pad(weight, ((0, 0), (0, -weight.shape[1] % group)))
    made = round_to_nearest(filled, INT8_BITS, group)
    error: Floats = (made.dense() - filled)[:, :weight.shape[1]]
    return error


class LayerSensitivity:
    """Measures the linears of layers.

    context: its scheme holds the options that concern no linear. golden: runs layers of this
    model. tokens: of the pass that costs are counted for.
    """

    def __init__(
        self, context: LayerContext, golden: GoldenDecoder, candidates: Mapping[str, Scheme],
        tokens: int, timing: Timing,
        progress: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.context, self.golden, self.candidates = context, golden, candidates
        self.tokens, self.timing, self.progress = tokens, timing, progress

    def measure(self, inputs: LayerInputs) -> tuple[list[Sensitivity], dict[str, Floats]]:
        """Every linear in every candidate; and for each linear an error of the residual.

        The errors, in steps [T, width], are those of the candidate with the median ``output``.
        """
        found: list[Sensitivity] = []
        errors: dict[str, list[tuple[float, Floats]]] = {}
        for name, scheme in self.candidates.items():
            self.progress(f"layer {inputs.index}: {name}")
            context = dataclasses.replace(self.context, scheme=SchemeMap(
                name=name, default=scheme, softmax=self.context.scheme.softmax,
                activation=self.context.scheme.activation))
            weights = OwnWeights(context, inputs)
            weights.run()
            layer = quantized_layer(context, inputs, weights.made)
            reference = self.run(only(layer, None), inputs.unseen)
            for linear in layer.linears:
                y = self.run(only(layer, linear), inputs.unseen)
                output = relative_error(y, reference)
                errors.setdefault(linear, []).append(
                    (output, (y.astype(np.float64) - reference).astype(np.float32)))
                found.append(Sensitivity(
                    linear=linear, candidate=name, output=output,
                    trace=trace_measure(weights.error(linear), inputs.made[INPUT_OF[linear]]),
                    preparation=preparation_of(linear, scheme, inputs),
                    cost=linear_cost(layer.linears[linear], linear, self.context.hardware,
                                     self.tokens, timing=self.timing)))
        return found, {linear: median(values) for linear, values in errors.items()}

    def run(self, layer: PreparedLayer, x: Ints) -> Ints:
        """Residual behind a layer."""
        return self.golden.run_layer(layer, x, self.golden.new_layer_state(), 0)


def preparation_of(linear: str, scheme: Scheme, inputs: LayerInputs) -> str:
    """Names how a linear's input is prepared."""
    spec = LinearSpec(
        name=linear, input_name=INPUT_OF[linear], weight=inputs.weights[f"{linear}.weight"],
        bias=None, blocks=inputs.blocks[linear], scheme=scheme)
    return "/".join(str(part) for part in input_key(spec))


def median(values: list[tuple[float, Floats]]) -> Floats:
    """The error of the middle candidate, the larger of two."""
    return sorted(values, key=lambda value: value[0])[len(values) // 2][1]
