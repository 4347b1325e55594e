"""Training-based refinement of quantized weights: an option that needs torch.

Codes and indices stay; codebooks and the scales of columns or groups are trained, first layer by
layer (`compiler.refine.blockwise`), then through the whole model (`compiler.refine.distill`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from compiler.decoder.heads import linear_columns, linear_rows
from compiler.decoder.weight_store import WeightStore
from compiler.errors import CompileError
from compiler.model import Floats, Model
from compiler.quant.weights import QuantizedWeights
from compiler.refine.settings import Refined, RefineSettings, Weights, digest
from hw.fixed import Ints


def refine(
    model: Model, weights: Weights, rows: Mapping[str, Ints], columns: Mapping[str, Ints],
    windows: Sequence[Ints], *, settings: RefineSettings,
    progress: Callable[[str], None] = lambda text: None, work: Path | None = None,
) -> Refined:
    """Train quantized weights towards the float model.

    rows: for linears whose rows have another order than the model's, the model's row at each, -1
    for those filled up with zeros; columns: likewise the model's inputs. windows: calibration
    tokens. Linears without weights stay float. work: folder in which every layer and every epoch
    is kept under a hash of all that goes in, from which an interrupted run goes on. Raises
    CompileError in one line, also when torch is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise CompileError("refinement needs torch: pip install lutrip[reference]")
    if not windows or min(len(window) for window in windows) < 2:
        raise CompileError("refine: the calibration text must have windows of at least 2 tokens")
    from compiler.refine.blockwise import refine_blockwise
    from compiler.refine.distill import distill

    made: dict[tuple[int, str], QuantizedWeights] = dict(weights)
    tensors: dict[str, Floats] = {}
    kept = None
    if work is not None:
        kept = work / f"refine-{digest(model.source, settings, weights, windows)}"
    if settings.blockwise_epochs:
        made = refine_blockwise(model, made, rows, columns, windows, settings, progress, kept)
    if settings.distill_epochs:
        made, tensors = distill(model, made, rows, columns, windows, settings, progress, kept)
    return Refined(weights=made, tensors=tensors)


def refine_stored(
    model: Model, store: WeightStore, stride: int, windows: Sequence[Ints], *,
    settings: RefineSettings, progress: Callable[[str], None] = lambda text: None,
    work: Path | None = None,
) -> Refined:
    """`refine` of the weights that `compiler.decoder.weights.calibrate_weights` has made.

    stride: places of a head in vector memory.
    """
    architecture = model.architecture
    weights = {(layer, linear): made for layer in range(architecture.layers)
               for linear, made in store(layer).items()}
    rows = {linear: linear_rows(architecture, linear, stride) for linear in architecture.linears}
    columns = {linear: places for linear in architecture.linears
               if (places := linear_columns(architecture, linear, stride)) is not None}
    return refine(model, weights, rows, columns, windows, settings=settings, progress=progress,
                  work=work)
