"""Quantize a whole decoder, layer by layer, from a float run over a calibration text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from compiler import float_layer
from compiler.decoder import heads
from compiler.decoder.layer import LayerContext, LayerQuantizer
from compiler.decoder.layer_store import MEMORY_BYTES, LayerStore
from compiler.decoder.linears import LinearGroup
from compiler.decoder.quantized import FloatLinear, QuantizedDecoder
from compiler.decoder.scaling import embedding_steps, norm_parameters, residual_step, to_steps
from compiler.errors import CompileError
from compiler.expression import Floats
from compiler.model import LINEARS, Model
from compiler.quant.quantized import IntegerInput, SimdLinear
from compiler.quant.quantizer import LinearSpec
from compiler.quant.scheme import Lut2dScheme, SchemeMap, SimdScheme
from compiler.quant.simd import round_to_groups, simd_linear
from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.golden.dequant import INT32_MAX

WINDOW = 512
"""Tokens of a calibration window."""
ROWS = 8192
"""Rows of the embedding or head in float at once."""
SAMPLE_ROWS = 1024
"""Rows of the head from which its input's division is found."""
LOGIT_HEADROOM = 8
HEAD_BITS = 8

Progress = Callable[[str], None]


def quantize_decoder(
    model: Model, scheme: SchemeMap, hardware: HardwareConfig, calibration: Sequence[int],
    capacity: int, *, exact: bool = False, memory_bytes: int = MEMORY_BYTES,
    progress: Progress = lambda text: None,
) -> QuantizedDecoder:
    """Integers of a model for one hardware and one scheme.

    calibration: tokens that scales and codebooks come from. capacity: positions of the key-value
    cache. exact: linears stay float, only to measure what the fixed-point parts cost.
    memory_bytes: layers beyond these lie in a temporary folder. The head is int8 on the
    multiplier array under every scheme. Only one layer is in float at a time. Raises CompileError
    in one line for what the hardware or the scheme cannot hold.
    """
    architecture = model.architecture
    if not hardware.simd:
        raise CompileError(f"hardware {hardware.name} has no multiplier array (simd), which "
                           "attention and the head need")
    if capacity < 1:
        raise CompileError(f"the key-value cache must hold at least 1 position, not {capacity}")
    length = WINDOW
    if architecture.position == "learned":
        length = min(length, float_layer.learned_positions(model))
    windows = [np.asarray(calibration[at:at + length])
               for at in range(0, len(calibration), length)]
    if not windows:
        raise CompileError("the calibration text is empty")
    stride = -(-architecture.head_width // hardware.word_elements) * hardware.word_elements
    peak = _residual_peak(model, windows, progress)
    tables = any(isinstance(scheme.of(name), Lut2dScheme) for name in ("o", "down"))
    context = LayerContext(
        architecture=architecture, scheme=scheme, hardware=hardware, capacity=capacity,
        residual_scale=residual_step(peak, architecture.width, architecture.norm_epsilon,
                                     tables and not exact),
        stride=stride, exact=exact)
    layers = LayerStore(memory_bytes)
    states = [float_layer.embed(model, window) for window in windows]
    for index in range(architecture.layers):
        progress(f"quantizing layer {index + 1} of {architecture.layers}")
        weights = float_layer.layer_weights(model, index)
        done = [float_layer.run_layer(architecture, weights, state) for state in states]
        states = [state for state, _ in done]
        made = {name: np.concatenate([part[name] for _, part in done]) for name in done[0][1]}
        blocks = {name: model.blocks(f"layers.{index}.{name}.weight") for name in LINEARS
                  if f"{name}.weight" in weights}
        layers.append(LayerQuantizer(context, index, weights, blocks, made).layer())
    progress("quantizing the head")
    hidden = np.concatenate([float_layer.final_hidden(model, state) for state in states])
    scheme_of_head = SimdScheme(name="head", weight_bits=HEAD_BITS, act_bits=8,
                                group=min(128, hardware.group_max), native_blocks=False)
    rows = np.arange(0, architecture.vocabulary, -(-architecture.vocabulary // SAMPLE_ROWS))
    sample = LinearSpec(name="head", input_name="x", weight=model.rows("head", rows), bias=None,
                        blocks=None, scheme=scheme_of_head)
    group = LinearGroup(hardware, hidden, [sample])
    head, exact_head = _head(model, group, sample, scheme_of_head, exact)
    bias = model.tensor("final_norm.bias") if model.has("final_norm.bias") else None
    final_norm = norm_parameters(
        model.tensor("final_norm") / group.migration, None if bias is None
        else bias / group.migration, x_scale=context.residual_scale, y_scale=group.x_scale,
        epsilon=architecture.norm_epsilon, center=architecture.norm == "layer", name="final_norm")
    scale = context.residual_scale
    embedding_peak = max(float(np.abs(rows).max()) for rows in _embedding_rows(model))
    shift = embedding_steps(embedding_peak, scale, "the embedding")

    def embedding(tokens: Ints) -> Ints:
        return to_steps(_embedded(model, tokens), scale * 2.0**shift)

    places, place_shift = _positions(model, capacity, scale)
    return QuantizedDecoder(
        architecture=architecture, hardware=hardware, scheme=scheme.name, capacity=capacity,
        residual_scale=scale, residual_peak=peak, embedding=embedding, embedding_shift=shift,
        position_embedding=places, position_shift=place_shift,
        rotations=heads.rotations(architecture, capacity, stride), layer=layers,
        final_norm=final_norm, head=head, exact_head=exact_head)


def _residual_peak(model: Model, windows: Sequence[Ints], progress: Progress) -> float:
    """Largest magnitude of the residual on the calibration text."""
    states = [float_layer.embed(model, window) for window in windows]
    peak = max(float(np.abs(state).max()) for state in states)
    for index in range(model.architecture.layers):
        progress(f"calibrating layer {index + 1} of {model.architecture.layers}")
        weights = float_layer.layer_weights(model, index)
        done = [float_layer.run_layer(model.architecture, weights, state) for state in states]
        states = [state for state, _ in done]
        peak = max(peak, *(float(made["residual_peak"][0]) for _, made in done))
    if not np.isfinite(peak):
        raise CompileError(f"{model.source}: the float model overflows on the calibration text")
    return peak


def _embedded(model: Model, tokens: Ints) -> Floats:
    """Embedding rows, normalized where the architecture says so."""
    rows = model.rows("embedding", tokens)
    if model.architecture.embedding_norm:
        rows = float_layer.normalized(model.architecture, rows, model.tensor("embedding_norm"),
                                    model.tensor("embedding_norm.bias"))
    return rows


def _embedding_rows(model: Model) -> Iterator[Floats]:
    vocabulary = model.architecture.vocabulary
    for at in range(0, vocabulary, ROWS):
        yield _embedded(model, np.arange(at, min(at + ROWS, vocabulary)))


def _positions(model: Model, capacity: int, scale: float) -> tuple[Ints | None, int]:
    """Learned positions in steps and their shift."""
    architecture = model.architecture
    if architecture.position != "learned":
        return None, 0
    rows = float_layer.learned_positions(model)
    if capacity > rows:
        raise CompileError(f"{model.source}: the model has {rows} learned positions, fewer than "
                           f"the capacity of {capacity}")
    places = model.rows("position_embedding",
                        np.arange(capacity) + architecture.position_offset)
    shift = embedding_steps(float(np.abs(places).max()), scale, "the position embedding")
    return to_steps(places, scale * 2.0**shift), shift


def _head(
    model: Model, group: LinearGroup, sample: LinearSpec, scheme: SimdScheme, exact: bool
) -> tuple[SimdLinear, FloatLinear | None]:
    """The head in int8, rounded some rows at a time; its logit step is a power of two."""
    codes, scales, peak = [], [], 0.0
    vocabulary, width = model.architecture.vocabulary, model.architecture.width
    for at in range(0, vocabulary, ROWS):
        rows = model.rows("head", np.arange(at, min(at + ROWS, vocabulary))) * group.migration
        if not np.isfinite(rows).all():
            raise CompileError("head: weights are not finite")
        peak = max(peak, float(np.abs(group.x @ rows.T).max()))
        filled = np.pad(rows, ((0, 0), (0, -width % scheme.group)))
        made = round_to_groups(filled, HEAD_BITS, scheme.group)
        codes.append(made[0])
        scales.append(made[1])
    step = 2.0 ** np.ceil(np.log2((peak or 1.0) * LOGIT_HEADROOM / INT32_MAX))
    source = group.source(sample)
    assert isinstance(source, IntegerInput)
    head = simd_linear("head", np.concatenate(codes), np.concatenate(scales), None, None, source,
                       HEAD_BITS, scheme.group, float(step), wide=True)
    if not exact:
        return head, None
    weight = model.tensor("head") * group.migration
    return head, FloatLinear(weight=weight, bias=np.zeros(vocabulary, np.float32),
                             x_scale=group.x_scale, y_scale=np.full(vocabulary, step))
