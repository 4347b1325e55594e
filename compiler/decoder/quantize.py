"""Quantize a whole decoder, layer by layer, from a float run over a calibration text."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from compiler import float_layer
from compiler.decoder import heads
from compiler.decoder.forms import form_of
from compiler.decoder.layer import LayerContext, LayerQuantizer
from compiler.decoder.layer_store import MEMORY_BYTES, LayerStore
from compiler.decoder.linears import LinearGroup
from compiler.decoder.quantized import FloatLinear, QuantizedDecoder
from compiler.decoder.scaling import embedding_steps, norm_parameters, residual_step, to_steps
from compiler.decoder.token_rule import pass_tokens
from compiler.decoder.weight_store import WeightStore
from compiler.decoder.weights import calibrate_weights, needs_calibration, weight_store
from compiler.errors import CompileError
from compiler.expression import Floats
from compiler.fit_sums import fit_sums
from compiler.model import BLOCK, LINEARS, Architecture, Model
from compiler.quant.quantized import IntegerInput, SimdLinear
from compiler.quant.quantizer import LinearSpec, check_fits
from compiler.quant.rounding import round_to_nearest
from compiler.quant.scheme import Lut2dScheme, SchemeMap, SimdScheme
from compiler.quant.simd import simd_linear
from compiler.quant.weights import GroupedWeights, QuantizedWeights
from compiler.refine.refine import refine_stored
from compiler.refine.settings import RefineSettings
from compiler.residual_order import READERS, order_within, reordered_model
from compiler.rotation import rotated_model
from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.golden.dequant import INT32_MAX

WINDOW = 512
"""Tokens of a calibration window."""
RANGE_WINDOWS = 8
"""Calibration windows that scales and activation codebooks come from; weights take all."""
TRAINED_FROM = 12
"""Calibration windows in front of those that weights are trained on."""
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
    work: Path | None = None, progress: Progress = lambda text: None,
) -> QuantizedDecoder:
    """Integers of a model for one hardware and one scheme.

    calibration: tokens that scales and codebooks come from. work: folder that keeps quantized
    weights, so that quantizing goes on where it was interrupted. capacity: positions of the
    key-value cache. exact: linears stay float, only to measure what the fixed-point parts cost.
    memory_bytes: layers beyond these lie in a temporary folder. The head is int8 on the
    multiplier array under every scheme. Only one layer is in float at a time. Raises CompileError
    in one line for what the hardware or the scheme cannot hold.
    """
    scheme.check_layers(model.architecture.layers)
    model = rotated_model(model, scheme, hardware)
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
    if not exact:
        _check_tables(architecture, scheme, hardware)
    peak, sizes = _survey(model, windows[:RANGE_WINDOWS], progress)
    order = _residual_order(architecture, scheme, sizes)
    if order is not None:
        model = reordered_model(model, order)
    training = windows[TRAINED_FROM:] if scheme.refine_epochs else []
    store = weight_store(model, scheme, stride, windows[:len(windows) - len(training)], work)
    if not exact and needs_calibration(model, scheme):
        calibrate_weights(model, scheme, stride, windows[:len(windows) - len(training)], store,
                          progress)
    weights_of = _refined(model, scheme, stride, training, store, work, progress)
    windows = windows[:RANGE_WINDOWS]
    tables = any(isinstance(part, Lut2dScheme) for name in ("o", "down")
                 for part in scheme.every(name))
    context = LayerContext(
        architecture=architecture, scheme=scheme, hardware=hardware, capacity=capacity,
        residual_scale=residual_step(peak, architecture.width, architecture.norm_epsilon,
                                     tables and not exact),
        stride=stride, exact=exact)
    layers, forms = LayerStore(memory_bytes), dict[Hashable, int]()
    states = [float_layer.embed(model, window) for window in windows]
    for index in range(architecture.layers):
        progress(f"quantizing layer {index + 1} of {architecture.layers}")
        weights = float_layer.layer_weights(model, index)
        done = [float_layer.run_layer(architecture, weights, state) for state in states]
        states = [state for state, _ in done]
        made = {name: np.concatenate([part[name] for _, part in done]) for name in done[0][1]}
        blocks = {name: model.blocks(f"layers.{index}.{name}.weight") for name in LINEARS
                  if f"{name}.weight" in weights}
        ready = weights_of(index) if len(store) else {}
        layer = LayerQuantizer(context, index, weights, blocks, made, ready).layer()
        forms.setdefault(form_of(layer), index)
        layers.append(layer)
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
        final_norm=final_norm, head=head, exact_head=exact_head, forms=list(forms.values()),
        pass_tokens=0 if exact else pass_tokens(scheme.token_rule, architecture, hardware),
        rotated=scheme.rotation != "none", residual_order=order)


def _check_tables(
    architecture: Architecture, scheme: SchemeMap, hardware: HardwareConfig
) -> None:
    """Refuse lookup schemes that the hardware cannot hold before anything long begins."""
    for index in range(architecture.layers):
        for name in architecture.linears:
            part = scheme.of(name, index)
            if isinstance(part, SimdScheme):
                continue
            shape = architecture.linear_shape(name)
            check_fits(LinearSpec(
                name=f"layers.{index}.{name}", input_name=name, bias=None, blocks=None,
                scheme=part, weight=np.broadcast_to(np.float32(0), shape)), hardware)


def _refined(
    model: Model, scheme: SchemeMap, stride: int, windows: Sequence[Ints], store: WeightStore,
    work: Path | None, progress: Progress,
) -> Callable[[int], Mapping[str, QuantizedWeights]]:
    """The layers' weights as training on fresh text leaves them; as they are without epochs."""
    if not scheme.refine_epochs or not len(store):
        return store
    if not windows:
        raise CompileError(
            f"scheme {scheme.name} trains on calibration text behind the first {TRAINED_FROM} "
            f"windows; give more of it, as --calibration-tokens {6 * TRAINED_FROM * WINDOW}")
    settings = RefineSettings(distill_epochs=scheme.refine_epochs)
    return refine_stored(model, store, stride, windows, settings=settings, progress=progress,
                         work=work).layer


def _survey(
    model: Model, windows: Sequence[Ints], progress: Progress
) -> tuple[float, Floats]:
    """Largest magnitude of the residual on the calibration text, and its channels' sizes.

    A channel's size is its usual share of a norm's output, in powers of two: the mean over layers
    of the logarithms of the root mean squares.
    """
    states = [float_layer.embed(model, window) for window in windows]
    peak = max(float(np.abs(state).max()) for state in states)
    sizes = np.zeros(model.architecture.width)
    for index in range(model.architecture.layers):
        progress(f"calibrating layer {index + 1} of {model.architecture.layers}")
        weights = float_layer.layer_weights(model, index)
        done = [float_layer.run_layer(model.architecture, weights, state) for state in states]
        states = [state for state, _ in done]
        peak = max(peak, *(float(made["residual_peak"][0]) for _, made in done))
        for name in ("attention_input", "mlp_input"):
            squares = np.mean([np.square(made[name]).mean(axis=0) for _, made in done], axis=0)
            sizes += np.log2(squares + 1e-12) / 2
    if not np.isfinite(peak):
        raise CompileError(f"{model.source}: the float model overflows on the calibration text")
    return peak, sizes


def _residual_order(
    architecture: Architecture, scheme: SchemeMap, sizes: Floats
) -> Ints | None:
    """Order of the residual's channels that suits channel exponents, or None without any."""
    units = [min(BLOCK, part.group) if part.native_blocks else part.group
             for name in READERS if name in architecture.linears for part in scheme.every(name)
             if isinstance(part, SimdScheme) and part.trip_max]
    return order_within(sizes, min(units)) if units else None


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
    parts, peak, vocabulary = [], 0.0, model.architecture.vocabulary
    for at in range(0, vocabulary, ROWS):
        rows = model.rows("head", np.arange(at, min(at + ROWS, vocabulary))) * group.migration
        if not np.isfinite(rows).all():
            raise CompileError("head: weights are not finite")
        peak = max(peak, float(np.abs(group.x @ rows.T).max()))
        parts.append(round_to_nearest(rows, HEAD_BITS, scheme.group))
    step = 2.0 ** np.ceil(np.log2((peak or 1.0) * LOGIT_HEADROOM / INT32_MAX))
    source = group.source(sample)
    assert isinstance(source, IntegerInput)
    whole = GroupedWeights(codes=np.concatenate([part.codes for part in parts]),
                           scales=np.concatenate([part.scales for part in parts]), minima=None,
                           inputs=model.architecture.width)
    head = simd_linear("head", whole, None, source, HEAD_BITS, float(step), wide=True)
    fitting = fit_sums(head, group.hardware, "head")
    assert isinstance(fitting, SimdLinear)
    if not exact:
        return fitting, None
    weight = model.tensor("head") * group.migration
    return fitting, FloatLinear(weight=weight, bias=np.zeros(vocabulary, np.float32),
                             x_scale=group.x_scale, y_scale=np.full(vocabulary, step))
