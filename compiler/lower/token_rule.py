"""Instructions of a token rule: the order of a pass' tokens, linears on int8 and on int4 rows."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass

from compiler.decoder.quantized import QuantizedLayer
from compiler.decoder.token_rule import LayerRule, low_input
from compiler.image.access import operand_rows
from compiler.image.layout import pack_factors, pad_axis
from compiler.ir.matmul import SimdMatmul
from compiler.ir.ops import Dequantize, Quantize, Tensor
from compiler.lower.context import Context, Operand, Place
from compiler.lower.linear import Lowering
from compiler.lower.matmul import LinearEmitter, Matmul
from compiler.lower.tile import Tiler
from compiler.quant.quantized import SimdLinear
from hw.isa import DrainMode, Opcode


@dataclass(frozen=True)
class PassParts:
    """Tokens of a pass in their order: ``high`` int8 ones, ``low`` int4 ones, then pruned ones."""

    tokens: int
    high: int
    low: int

    @property
    def kept(self) -> int:
        """Tokens that take part in the MLP."""
        return self.high + self.low


def pass_parts(layer: QuantizedLayer, tokens: int) -> PassParts | None:
    """Parts of a pass of a layer, or None where all its tokens are int8."""
    if layer.token_rule is None:
        return None
    low, pruned = layer.token_rule.rule.parts(tokens)
    return PassParts(tokens, tokens - low - pruned, low) if low or pruned else None


def low_name(linear: str) -> str:
    """What a linear on int4 rows is called."""
    return f"{linear}.low"


def add_low(
    lowering: Lowering, rule: LayerRule, linears: Mapping[str, SimdLinear],
    inputs: Mapping[str, Tensor],
) -> None:
    """Operations of the int4 rows beside those of the int8 ones; weights are shared."""
    builder = lowering.builder
    made = {op.out.name: op for op in builder.ops if isinstance(op, Dequantize | SimdMatmul)}
    for name, steps in rule.low.items():
        linear, low, high = linears[name], low_name(name), made[f"{name}.y"]
        assert isinstance(high, Dequantize)
        matmul = made[high.sums.name]
        assert isinstance(matmul, SimdMatmul)
        x, peaks, alphas = lowering.quantize(inputs[name], low_input(linear).input)
        # The region of the weights follows from the operation's name.
        sums = builder.add(dataclasses.replace(
            matmul, x=x, alphas=alphas, act_bits=4,
            out=dataclasses.replace(matmul.out, name=f"{low}.sums")))
        builder.add(dataclasses.replace(
            high, name=f"{low}.dequantize", sums=sums, peaks=peaks,
            multiplier=builder.constant(f"{low}.multiplier", steps.multiplier),
            shift1=steps.shift1, shift2=steps.shift2,
            out=dataclasses.replace(high.out, name=f"{low}.y")))


class PartEmitter(LinearEmitter):
    """A linear layer on the tokens from place ``first`` of the order on.

    target: place of the rows of its results. residual: they are added to it at the tokens' own
    rows, else they lie in the order of the tokens.
    """

    def __init__(
        self, context: Context, matmul: Matmul, dequantize: Dequantize, *, first: int,
        parts: PassParts, target: Place, residual: bool,
    ) -> None:
        super().__init__(context, matmul, dequantize)
        self.first, self.parts, self.target, self.residual = first, parts, target, residual

    def drain_fields(self, first: int) -> dict[str, int]:
        """Rows of the part."""
        start, stride = self.target.start, self.target.stride
        if not self.residual:
            return {"destination": start + self.first * stride + first * self.block_words,
                    "stride": stride}
        return {"destination": start + 2 * first * self.block_words, "stride": stride,
                "mode": int(DrainMode.RESIDUAL), "ordered": 1, "order": self.first,
                "order_tokens": self.parts.tokens}


def emit_order(context: Context, parts: PassParts) -> None:
    """ORDER, behind the last SOFTMAX of a pass' layer."""
    context.emit(Opcode.ORDER, "token_order", "", tokens=parts.tokens, low=parts.low,
                 pruned=parts.tokens - parts.kept)


def emit_parts(
    tiler: Tiler, linears: Mapping[str, Dequantize], name: str, parts: PassParts, target: Place,
) -> None:
    """A linear on the int8 rows, then on the int4 rows.

    linears: by name, those on int4 rows included. target: as for `PartEmitter`; results of o and
    down are added there.
    """
    end = parts.tokens if name == "o" else parts.kept
    for own, first, last in ((name, 0, parts.high), (low_name(name), parts.high, end)):
        if first == last:
            continue
        dequantize = linears[own]
        matmul = tiler.made[dequantize.sums.name]
        assert isinstance(matmul, SimdMatmul)
        if matmul.x.name not in tiler.context.operands:
            quantize = tiler.made[matmul.x.name]
            assert isinstance(quantize, Quantize)
            emit_quantize(tiler, quantize, first, last - first,
                          None if name == "down" else parts)
        PartEmitter(tiler.context, matmul, dequantize, first=first, parts=parts, target=target,
                    residual=name in ("o", "down")).emit(last - first)


def emit_quantize(
    tiler: Tiler, op: Quantize, first: int, tokens: int, parts: PassParts | None
) -> None:
    """QUANTIZE of tokens from place ``first`` on; parts: the rows lie at the tokens' own places."""
    context, config = tiler.context, tiler.config
    rounds = -(-op.out.shape[1] // config.word_elements)
    int4 = op.bits == 4
    start = context.store.allocate(rounds * operand_rows(tokens, int4))
    operand = Operand(start, rounds, True, context.alphas.allocate(rounds),
                      context.scales.allocate(tokens))
    context.operands[op.out.name] = operand
    place = context.places[op.source.name]
    padded = pad_axis(tiler.graph.constants[op.alphas.name], 0, rounds * config.chunks_per_word)
    region = context.constant(f"{op.name}.factors",
                              functools.partial(pack_factors, padded, config))
    ordered = {} if parts is None else {
        "ordered": 1, "order": first, "order_tokens": parts.tokens}
    context.emit(
        Opcode.QUANTIZE, op.name, region, rounds=rounds, tokens=tokens, heads=1,
        source=place.start + (first * place.stride if parts is None else 0), stride=place.stride,
        head_stride=0, operands=start, alphas=operand.alphas, scales=operand.scales,
        int4=int(int4), **ordered)
