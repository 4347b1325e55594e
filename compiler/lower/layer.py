"""Instructions of one decoder layer for some consecutive tokens."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
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
from compiler.lower.attention import (
    CACHE,
    SHARED,
    AttentionStages,
    Span,
    head_stride,
    key_format,
    value_blocks,
    value_format,
)
from compiler.lower.context import Context, Place
from compiler.lower.linear import Lowering
from compiler.lower.matmul import LinearEmitter
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


def cuts(span: Span, size: int) -> list[tuple[int, int]]:
    """First and end token of the parts of a span that stay between multiples of ``size``."""
    result, at = [], 0
    while at < span.tokens:
        end = min(span.tokens, at + size - (span.position + at) % size)
        result.append((at, end))
        at = end
    return result


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


@dataclass
class LayerEmitter:
    """Emits a layer into its tiler's context; ``residual`` is already placed.

    prepared: of `prepare_layer`. tokens_max: tokens that column tiles and places are made for, the
    same in every pass. tokens: of the pass that is emitted; parts: of it, under a token rule.
    `project`, `attend` and `finish` follow each other; all raise OutOfSpaceError when the stores
    are too small.
    """

    decoder: QuantizedDecoder
    layer: QuantizedLayer
    prepared: PreparedGraph
    tokens_max: int
    residual: Place
    tokens: int
    tiler: Tiler = field(init=False)
    parts: PassParts | None = field(init=False)

    def __post_init__(self) -> None:
        self.config: HardwareConfig = self.decoder.hardware
        self.graph = self.prepared.graph
        self.tiler = Tiler(self.prepared, self.config, self.tokens_max)
        self.context: Context = self.tiler.context
        self.matmuls = self.prepared.results
        self.parts = pass_parts(self.layer, self.tokens)
        self.context.places["residual"] = self.residual
        self.context.vector.used[self.residual.start] = self.residual.stride * self.tokens_max
        self.context.vector.pointer = self.residual.start + self.residual.stride * self.tokens_max

    def project(self) -> None:
        """Queries, keys and values."""
        tokens = self.tokens
        self.norm("attention_norm", self.layer.attention_norm, "residual", "attention_input",
                  tokens)
        for name in "qkv":
            self.linear(name, tokens)
        self.release("attention_input")
        for name in "qk":
            self.head_norm(name, tokens)

    def attend(self, span: Span) -> None:
        """Attention of the tokens at their positions."""
        for name in "qk":
            self.rotate(name, span)
        self.append(span)
        self.release("k.y", "v.y")
        self.attention(span)
        self.release("q.y")

    def finish(self) -> None:
        """The output projection and the MLP."""
        tokens = self.tokens
        if self.parts is not None:
            emit_order(self.context, self.parts)
        self.linear("o", tokens, ResidualEmitter)
        self.release("attention_output")
        if self.parts is not None and not self.parts.kept:
            return
        self.norm("mlp_norm", self.layer.mlp_norm, "residual", "mlp_input", tokens)
        for name in ("gate", "up"):
            if name in self.layer.linears:
                self.linear(name, tokens)
        self.release("mlp_input")
        if self.parts is not None:
            tokens = self.parts.kept
        for index, op in enumerate(self.graph.ops):
            if isinstance(op, Activate):
                self.tiler.emit_activate(op, tokens, index)
        self.rotate_hidden(tokens)
        self.release("gate.y", "up.y", "up.factor")
        self.linear("down", tokens, ResidualEmitter)
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

    def linear(
        self, name: str, tokens: int, emitter: type[LinearEmitter] = LinearEmitter
    ) -> None:
        """A linear layer and, if it is the first of its input, the input's preparation."""
        op = self.matmuls[name]
        if self.parts is not None and low_name(name) in self.matmuls:
            target = (self.context.place(op.out.name) if emitter is LinearEmitter
                      else self.context.places["residual"])
            emit_parts(self.tiler, self.matmuls, name, self.parts, target)
            return
        matmul = self.tiler.made[op.sums.name]
        assert isinstance(matmul, LutMatmul | RowgenMatmul | SimdMatmul)
        operand = matmul.codes if isinstance(matmul, LutMatmul) else matmul.x
        if operand.name not in self.context.operands:
            made = self.tiler.made[operand.name]
            if isinstance(made, Search):
                self.tiler.prepare_search(made)
            else:
                assert isinstance(made, Quantize)
                self.tiler.emit_quantize(made, tokens)
        if emitter is LinearEmitter:
            self.context.place(op.out.name)
        emitter(self.context, matmul, op).emit(tokens)

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

    def append(self, span: Span) -> None:
        """Keys and values of all heads into the cache."""
        config, head_words = self.config, self.decoder.head_words
        keys, values = key_format(self.decoder), value_format(self.decoder)
        key_words, value_words = (
            form.group_bytes // config.port_bytes for form in (keys, values))
        place = self.context.places["k.y"]
        common = {"heads": self.decoder.architecture.kv_heads, "head_stride": head_words,
                  "cache_stride": head_stride(self.decoder)}
        for first, end in cuts(span, config.lanes):
            block, slot = divmod(span.position + first, config.lanes)
            self.context.emit(
                Opcode.APPEND, "k.append", f"{CACHE}keys.0", **common,
                port_stride=keys.port_stride, slot=slot, tokens=end - first,
                offset=block * keys.groups * key_words, words=head_words,
                source=place.start + first * place.stride, stride=place.stride,
                group_rounds=keys.group_rounds, group_words=key_words, transpose=0)
        place = self.context.places["v.y"]
        for part, (w0, w1) in enumerate(value_blocks(self.decoder)):
            for first, end in cuts(span, config.group_max):
                group, slot = divmod(span.position + first, config.group_max)
                self.context.emit(
                    Opcode.APPEND, "v.append", f"{CACHE}values.0.{part}", **common,
                    port_stride=values.port_stride, slot=slot, tokens=end - first,
                    offset=group * value_words, words=w1 - w0,
                    source=place.start + first * place.stride + w0, stride=place.stride,
                    group_rounds=values.group_rounds, group_words=value_words, transpose=1)

    def attention_stages(self, span: Span) -> AttentionStages:
        """Attention's own room, and that of its results."""
        self.context.place("attention_output")
        return AttentionStages(self.decoder, self.layer.attention, self.context, span,
                               scored=self.parts is not None)

    def attention(self, span: Span) -> None:
        """Scores and softmax of a head run beside the mixture of the head before it."""
        stages = self.attention_stages(span)
        pending = None
        for head in range(self.decoder.architecture.kv_heads):
            for first in range(0, span.tokens, stages.tile):
                end = min(first + stages.tile, span.tokens)
                prepared = stages.prepare(head, first, end)
                if pending is not None:
                    stages.mix(*pending)
                pending = head, first, end, prepared
        assert pending is not None
        stages.mix(*pending)
        stages.close()
