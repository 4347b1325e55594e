"""Instructions of one decoder layer for some consecutive tokens."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from compiler.decoder.quantized import (
    ActivationParameters,
    NormParameters,
    QuantizedDecoder,
    QuantizedLayer,
)
from compiler.image.layout import pack_norm
from compiler.ir.graph import Graph
from compiler.ir.matmul import LutMatmul, RowgenMatmul, SimdMatmul
from compiler.ir.ops import Activate, Quantize, Search, Tensor
from compiler.lower.allocate import Share
from compiler.lower.append import append_keys, append_values, rows_before
from compiler.lower.attention import SHARED, AttentionStages, Span
from compiler.lower.context import Context, Place
from compiler.lower.linear import Lowering
from compiler.lower.matmul import LinearEmitter, Matmul
from compiler.lower.tile import PreparedGraph, Tiler, prepare_graph
from compiler.lower.token_rule import (
    PassParts,
    add_low,
    emit_order,
    emit_parts,
    low_name,
    pass_parts,
)
from compiler.model import INPUT_OF
from compiler.quant.quantized import SimdLinear
from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.isa import DrainMode, Opcode


def activation(
    lowering: Lowering, parameters: ActivationParameters, outputs: Mapping[str, Tensor]
) -> Tensor:
    """Input of down; the factor's own function, where it has one, comes first."""
    builder = lowering.builder

    def add(name: str, source: Tensor, factor: Tensor | None, shift: int,
            base: Ints, delta: Ints, out: str) -> Tensor:
        return builder.add(Activate(
            name=name, source=source, factor=factor, shift=shift,
            base=builder.constant(f"{name}.base", base),
            delta=builder.constant(f"{name}.delta", delta), out=Tensor(out, source.shape)))

    if not parameters.gated:
        return add("activation", outputs["up"], None, 0, parameters.base, parameters.delta,
                   "mlp_hidden")
    factor = outputs["up"]
    if parameters.factor_base is not None and parameters.factor_delta is not None:
        factor = add("factor", factor, None, 0, parameters.factor_base, parameters.factor_delta,
                     "up.factor")
    return add("activation", outputs["gate"], factor, parameters.shift, parameters.base,
               parameters.delta, "mlp_hidden")


def layer_graph(decoder: QuantizedDecoder, layer: QuantizedLayer, tokens: int) -> Graph:
    """Linear layers and activation of a layer; their inputs have no producer."""
    lowering, parameters = Lowering({}), layer.activation
    width = decoder.architecture.width
    inputs = {
        "attention_input": Tensor("attention_input", (tokens, width)),
        "attention_output": Tensor(
            "attention_output", (tokens, decoder.architecture.heads * decoder.head_stride)),
        "mlp_input": Tensor("mlp_input", (tokens, width)),
    }
    outputs: dict[str, Tensor] = {}
    for name in INPUT_OF:
        if name not in layer.linears:
            continue
        if name == "down":
            inputs["mlp_hidden"] = activation(lowering, parameters, outputs)
        outputs[name] = lowering.linear(name, layer.linears[name], inputs[INPUT_OF[name]])
    if layer.token_rule is not None:
        ruled = {name: linear for name, linear in layer.linears.items()
                 if isinstance(linear, SimdLinear)}
        add_low(lowering, layer.token_rule, ruled,
                {name: inputs[INPUT_OF[name]] for name in layer.token_rule.low})
    return lowering.builder.graph()


PIECES = {"gate": 2, "up": 2}
"""Column tiles of a linear at least; those of the MLP are activated beside the next ones."""


class ResidualEmitter(LinearEmitter):
    """A linear layer whose sums are added to the residual."""

    def drain_fields(self, first: int) -> dict[str, int]:
        """Destination: pairs of words."""
        place = self.context.places["residual"]
        return {"destination": place.start + 2 * first * self.block_words, "stride": place.stride,
                "mode": int(DrainMode.RESIDUAL)}


class ArgmaxEmitter(LinearEmitter):
    """The output head: only the largest logit's column is kept."""

    def drain_fields(self, first: int) -> dict[str, int]:
        """Destination: the result word."""
        return {"destination": self.context.places["next_token"].start, "stride": 0,
                "mode": int(DrainMode.ARGMAX), "fresh": int(first == 0),
                "column": first * self.config.lanes}


def prepare_layer(
    decoder: QuantizedDecoder, layer: QuantizedLayer, residual_words: int
) -> PreparedGraph:
    """Graph of a layer whose normalized residual has rows of so many words."""
    config = decoder.hardware
    prepared = prepare_graph(layer_graph(decoder, layer, config.tokens_max), config)
    words = dict(prepared.words)
    words |= dict.fromkeys(("attention_input", "mlp_input"), residual_words)
    words["attention_output"] = max(
        words["attention_output"], decoder.architecture.heads * decoder.head_words)
    words |= {name: words[name.replace(low_name(""), "")] for name in words
              if name.endswith(f"{low_name('')}.y")}
    return dataclasses.replace(prepared, words=words)


@dataclass(frozen=True)
class Room:
    """What a part of a pass has on chip.

    tokens: that column tiles and places are made for, the same in every pass. residual: of the
    part's first token. reserved: vector words of all parts' residuals. share: of the rest.
    """

    tokens: int
    residual: Place
    reserved: int
    share: Share


@dataclass
class LayerEmitter:
    """Emits a layer for a part of a pass; its residual is already placed.

    prepared: of `prepare_layer`. tokens: of the part; parts: of them, under a token rule. The
    methods from `normalize` to `contract` follow each other (`compiler.lower.stages`); all raise
    OutOfSpaceError when the stores are too small.
    """

    decoder: QuantizedDecoder
    layer: QuantizedLayer
    prepared: PreparedGraph
    room: Room
    tokens: int
    tiler: Tiler = field(init=False)
    parts: PassParts | None = field(init=False)

    def __post_init__(self) -> None:
        self.config: HardwareConfig = self.decoder.hardware
        self.graph = self.prepared.graph
        self.tiler = Tiler(self.prepared, self.config, self.room.tokens, self.room.share,
                           self.room.reserved)
        self.context: Context = self.tiler.context
        self.matmuls = self.prepared.results
        self.parts = pass_parts(self.layer, self.tokens)
        self.context.places["residual"] = self.room.residual

    def normalize(self) -> None:
        """Input of the projections."""
        self.norm("attention_norm", self.layer.attention_norm, "residual", "attention_input",
                  self.tokens)
        for name in "kqv":
            self.prepare(name, self.tokens)

    def keys(self) -> None:
        """Keys."""
        self.linear("k", self.tokens)
        self.head_norm("k", self.tokens)

    def rotate_keys(self, span: Span) -> None:
        """Keys at their positions."""
        self.rotate("k", span)

    def queries(self) -> None:
        """Queries."""
        self.linear("q", self.tokens)
        self.head_norm("q", self.tokens)

    def rotate_queries(self, span: Span) -> None:
        """Queries at their positions."""
        self.rotate("q", span)

    def values(self) -> None:
        """Values, which are wanted last."""
        self.linear("v", self.tokens)
        self.release("attention_input")

    def append(self, span: Span) -> None:
        """Keys and values into the cache."""
        append_keys(self.decoder, self.context, span)
        append_values(self.decoder, self.context, span)
        self.release("k.y", "v.y")

    def output(self) -> None:
        """The output projection."""
        if self.parts is not None:
            emit_order(self.context, self.parts)
        self.linear("o", self.tokens, ResidualEmitter)
        self.release("attention_output")

    def expand(self) -> None:
        """The MLP up to its hidden activations."""
        if self.parts is not None and not self.parts.kept:
            return
        self.norm("mlp_norm", self.layer.mlp_norm, "residual", "mlp_input", self.tokens)
        names = [name for name in ("gate", "up") if name in self.layer.linears]
        tokens = self.tokens if self.parts is None else self.parts.kept
        if self.parts is None:
            self.expand_tiles([self.emitter(name) for name in names])
        else:
            for name in names:
                self.linear(name, self.tokens)
            self.activate(tokens)
        self.release("mlp_input")
        self.rotate_hidden(tokens)
        self.release("gate.y", "up.y", "up.factor")

    def expand_tiles(self, emitters: Sequence[LinearEmitter]) -> None:
        """Columns are activated while the next ones are computed."""
        for emitter in emitters:
            self.context.place(emitter.dequantize.out.name)
        if any(emitter.tiles != emitters[0].tiles for emitter in emitters):
            for emitter in emitters:
                emitter.emit(self.tokens)
            self.activate(self.tokens)
            return
        words = emitters[0].block_words
        for first, last in emitters[0].tiles:
            for emitter in emitters:
                emitter.emit_tile(self.tokens, first, last)
            self.activate(self.tokens, (first * words, min(last * words, emitters[0].words)))

    def activate(self, tokens: int, words: tuple[int, int] | None = None) -> None:
        """Activation of all or some words of the rows."""
        for index, op in enumerate(self.graph.ops):
            if isinstance(op, Activate):
                self.tiler.emit_activate(op, tokens, index, words)

    def contract(self) -> None:
        """The MLP's last linear layer."""
        if self.parts is not None and not self.parts.kept:
            return
        self.linear("down", self.tokens if self.parts is None else self.parts.kept,
                    ResidualEmitter)
        self.release("mlp_hidden")

    def release(self, *names: str) -> None:
        """Free tensors and the operands made of them."""
        for name in names:
            self.tiler.release(name)
            for made in self.prepared.inputs.get(name, ()):
                self.tiler.release(made)

    def norm(
        self, name: str, parameters: NormParameters, source: str, out: str, tokens: int
    ) -> None:
        """NORM of the residual into a new tensor."""
        place, context = self.context.places[source], self.context
        target = context.place(out)
        words = target.stride
        context.emit(
            Opcode.NORM, name, self.norm_region(name, parameters, words), tokens=tokens, heads=1,
            words=words, source=place.start, stride=place.stride, head_stride=0,
            destination=target.start, destination_stride=target.stride,
            destination_head_stride=0, wide=1, center=int(parameters.center))

    def norm_region(self, name: str, parameters: NormParameters, words: int) -> str:
        """Region of a norm's parameters."""
        return self.context.constant(f"{name}.parameters", functools.partial(
            pack_norm, parameters.weight, parameters.bias, parameters.shift, parameters.inverse,
            parameters.epsilon, len(parameters.weight), words, self.config))

    def prepare(self, name: str, tokens: int) -> Matmul:
        """A linear's products; their input is made if no linear before it has done so."""
        matmul = self.tiler.made[self.matmuls[name].sums.name]
        assert isinstance(matmul, LutMatmul | RowgenMatmul | SimdMatmul)
        operand = matmul.codes if isinstance(matmul, LutMatmul) else matmul.x
        if operand.name not in self.context.operands:
            made = self.tiler.made[operand.name]
            if isinstance(made, Search):
                self.tiler.prepare_search(made)
            else:
                assert isinstance(made, Quantize)
                self.tiler.emit_quantize(made, tokens)
        return matmul

    def linear(
        self, name: str, tokens: int, emitter: type[LinearEmitter] = LinearEmitter
    ) -> None:
        """A linear layer."""
        op = self.matmuls[name]
        if self.parts is not None and low_name(name) in self.matmuls:
            target = (self.context.place(op.out.name) if emitter is LinearEmitter
                      else self.context.places["residual"])
            emit_parts(self.tiler, self.matmuls, name, self.parts, target)
            return
        if emitter is LinearEmitter:
            before = rows_before(self.config) if name == "v" else 0
            self.context.place(op.out.name, before)
        self.emitter(name, emitter).emit(tokens)

    def emitter(
        self, name: str, emitter: type[LinearEmitter] = LinearEmitter
    ) -> LinearEmitter:
        """What emits a linear layer, whose input is prepared."""
        matmul = self.prepare(name, self.tokens)
        return emitter(self.context, matmul, self.matmuls[name], PIECES.get(name, 1))

    def head_norm(self, name: str, tokens: int) -> None:
        """NORM of every head, in place (Qwen3)."""
        parameters = self.layer.q_norm if name == "q" else self.layer.k_norm
        if parameters is None:
            return
        architecture, head_words = self.decoder.architecture, self.decoder.head_words
        heads = architecture.heads if name == "q" else architecture.kv_heads
        place = self.context.places[f"{name}.y"]
        self.context.emit(
            Opcode.NORM, f"{name}_norm", self.norm_region(f"{name}_norm", parameters, head_words),
            tokens=tokens, heads=heads, words=head_words, source=place.start, stride=place.stride,
            head_stride=head_words, destination=place.start, destination_stride=place.stride,
            destination_head_stride=head_words, wide=0, center=int(parameters.center))

    def rotate(self, name: str, span: Span) -> None:
        """ROPE of every head, in place."""
        if self.decoder.rotations is None:
            return
        architecture, head_words = self.decoder.architecture, self.decoder.head_words
        place = self.context.places[f"{name}.y"]
        self.context.emit(
            Opcode.ROPE, f"{name}.rope", f"{SHARED}rotations@{span.position}", tokens=span.tokens,
            heads=architecture.heads if name == "q" else architecture.kv_heads, words=head_words,
            source=place.start, stride=place.stride, head_stride=head_words)

    def rotate_hidden(self, tokens: int) -> None:
        """HADAMARD of down's input, in place."""
        rotation = self.layer.activation.rotation
        if rotation is None:
            return
        place, width = self.context.places["mlp_hidden"], self.decoder.architecture.ffn_width
        self.context.emit(
            Opcode.HADAMARD, "mlp_hidden.hadamard", "", tokens=tokens, heads=1,
            words=-(-width // self.config.word_elements), source=place.start, stride=place.stride,
            head_stride=0, length_bits=rotation.length_bits, shift=rotation.shift)

    def attention_stages(self, span: Span) -> AttentionStages:
        """Attention's own room, and that of its results."""
        self.context.place("attention_output")
        return AttentionStages(self.decoder, self.layer.attention, self.context, span,
                               scored=self.parts is not None)

    def attention(self, span: Span) -> None:
        """Scores and softmax of some heads run beside the mixture of those before them."""
        stages = self.attention_stages(span)
        pending = None
        heads = 0 if self.context.dry else self.decoder.architecture.kv_heads
        for head in range(0, heads, stages.unit):
            for first in range(0, span.tokens, stages.tile):
                end = min(first + stages.tile, span.tokens)
                prepared = stages.prepare(head, first, end)
                if pending is not None:
                    stages.mix(*pending)
                pending = head, first, end, prepared
        if pending is not None:
            stages.mix(*pending)
        stages.close()
        self.release("q.y")
