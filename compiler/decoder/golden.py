"""The decoder on golden functions: exactly what the instructions of a compiled model compute."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compiler.decoder.attention import attend
from compiler.decoder.golden_linear import PreparedLinear, exact_linear
from compiler.decoder.quantized import NormParameters, QuantizedDecoder, QuantizedLayer
from compiler.decoder.token_rule import Ranked, ranked
from compiler.errors import CompileError
from hw.fixed import Ints
from hw.golden import residual as stream
from hw.golden.activation import activate
from hw.golden.cache import cache_quantize
from hw.golden.hadamard import hadamard
from hw.golden.norm import normalize
from hw.golden.rope import rotate

LOGIT_ROWS = 64
"""Tokens whose logits are computed at once."""
PREPARED_BYTES = 3 << 30
"""Prepared layers that are kept at most."""


@dataclass
class KeyValues:
    """Cache of one sequence: int8 [layers, kv heads, capacity, head stride]; ``length`` filled."""

    keys: Ints
    values: Ints
    length: int = 0


@dataclass
class LayerState:
    """Cache of one layer: int8 [kv heads, capacity, head stride]."""

    keys: Ints
    values: Ints


class PreparedLayer:
    """A layer with its linears ready to run."""

    def __init__(self, layer: QuantizedLayer) -> None:
        self.layer, self.low = layer, False
        self.linears = {name: PreparedLinear(linear) for name, linear in layer.linears.items()}
        self.bytes = sum(linear.bytes for linear in self.linears.values())

    def linear(self, name: str, x: Ints, wide: bool = False) -> Ints:
        """int16 [T, M] of int16 [T, D]; int32 if ``wide``."""
        if name in self.layer.exact:
            return exact_linear(self.layer.exact[name], x, wide)
        rule = self.layer.token_rule if self.low else None
        return self.linears[name](x, wide, None if rule is None else rule.low.get(name))

    def of_rows(self, low: bool) -> PreparedLayer:
        """The layer for rows whose inputs of o, gate, up and down are int4 if ``low``."""
        view = copy.copy(self)
        view.low = low
        return view


class GoldenDecoder:
    """Runs a quantized decoder in integers.

    Everything is bit-exact with the instructions of docs/architecture.md: `layer` gives the
    residual behind each layer, `logits` the ARGMAX drain's values before the comparison.
    kept_bytes: weights of layers made ready that are kept at most.
    """

    def __init__(self, decoder: QuantizedDecoder, kept_bytes: int = PREPARED_BYTES) -> None:
        self.decoder, self.kept_bytes = decoder, kept_bytes
        self.prepared: dict[int, PreparedLayer] = {}
        self.prepared_bytes = 0
        self.head = PreparedLinear(decoder.head)

    def new_state(self) -> KeyValues:
        """An empty cache."""
        decoder, architecture = self.decoder, self.decoder.architecture
        shape = (architecture.layers, architecture.kv_heads, decoder.capacity, decoder.head_stride)
        return KeyValues(keys=np.zeros(shape, np.int8), values=np.zeros(shape, np.int8))

    def new_layer_state(self) -> LayerState:
        """An empty cache of one layer."""
        decoder = self.decoder
        shape = (decoder.architecture.kv_heads, decoder.capacity, decoder.head_stride)
        return LayerState(keys=np.zeros(shape, np.int8), values=np.zeros(shape, np.int8))

    def embed(self, tokens: Sequence[int] | Ints, position: int) -> Ints:
        """Residual int32 [T, width] of tokens, the first of which stands at ``position``."""
        decoder, ids = self.decoder, np.asarray(tokens)
        if len(ids) == 0:
            raise ValueError("there are no tokens to run")
        if position + len(ids) > decoder.capacity:
            raise CompileError(f"{position + len(ids)} tokens do not fit the key-value cache's "
                               f"capacity of {decoder.capacity}")
        if ids.min() < 0 or ids.max() >= decoder.architecture.vocabulary:
            raise CompileError("a token is outside the model's vocabulary of "
                               f"{decoder.architecture.vocabulary}")
        x = stream.embed(decoder.embedding(ids), decoder.embedding_shift)
        if decoder.position_embedding is not None:
            rows = decoder.position_embedding[position:position + len(ids)]
            x = stream.add(x, stream.embed(rows, decoder.position_shift))
        return x

    def layer(self, index: int, x: Ints, state: KeyValues) -> Ints:
        """Residual behind layer ``index`` of the tokens behind ``state.length``; fills the cache.

        ``state.length`` does not change, so that every layer sees the same positions.
        """
        kept = LayerState(keys=state.keys[index], values=state.values[index])
        return self.run_layer(self.prepared_layer(index), x, kept, state.length)

    def run_layer(self, prepared: PreparedLayer, x: Ints, state: LayerState, first: int) -> Ints:
        """Residual int32 [T, width] behind a layer of tokens whose first position is ``first``.

        Under a token rule they are cut into passes, as the compiler cuts a prompt.
        """
        layer, rule = prepared.layer, prepared.layer.token_rule
        if rule is not None and len(x) > self.decoder.pass_tokens:
            step = self.decoder.pass_tokens
            return np.concatenate([self.run_layer(prepared, x[at:at + step], state, first + at)
                                   for at in range(0, len(x), step)])
        h = normalized(layer.attention_norm, x)
        heads = {name: self._heads(prepared.linear(name, h)) for name in "qkv"}
        for name, norm in (("q", layer.q_norm), ("k", layer.k_norm)):
            heads[name] = self._normed_and_rotated(heads[name], norm, first)
        last = first + len(x)
        hardware = self.decoder.hardware
        state.keys[:, first:last] = cache_quantize(
            heads["k"], hardware.key_bits).transpose(1, 0, 2)
        state.values[:, first:last] = cache_quantize(
            heads["v"], hardware.value_bits).transpose(1, 0, 2)
        scores = None if rule is None or not any(rule.rule.parts(len(x))) else np.zeros(
            len(x), np.int64)
        mixed = attend(layer.attention, heads["q"], state.keys[:, :last],
                       state.values[:, :last], first, self.decoder.hardware, scores)
        if rule is not None and scores is not None:
            return self._ranked(prepared, x, mixed.reshape(len(x), -1), ranked(rule.rule, scores))
        x = stream.add(x, prepared.linear("o", mixed.reshape(len(x), -1), wide=True))
        h = normalized(layer.mlp_norm, x)
        return stream.add(x, prepared.linear("down", self._hidden(prepared, h), wide=True))

    def _ranked(self, prepared: PreparedLayer, x: Ints, mixed: Ints, tokens: Ranked) -> Ints:
        """Residual behind o and the MLP where the tokens take different activations, or none."""
        x = x.copy()
        for rows, low in tokens.attended:
            y = prepared.of_rows(low).linear("o", mixed[rows], wide=True)
            x[rows] = stream.add(x[rows], y)
        h = normalized(prepared.layer.mlp_norm, x)
        for rows, low in tokens.kept:
            part = prepared.of_rows(low)
            y = part.linear("down", self._hidden(part, h[rows]), wide=True)
            x[rows] = stream.add(x[rows], y)
        return x

    def run(self, tokens: Sequence[int] | Ints, state: KeyValues) -> Ints:
        """Residual behind the last layer, int32 [T, width]; the state then holds the tokens."""
        x = self.embed(tokens, state.length)
        for index in range(self.decoder.architecture.layers):
            x = self.layer(index, x, state)
        state.length += len(x)
        return x

    def logits(self, x: Ints) -> Ints:
        """int32 [T, vocabulary] in steps of the head's ``y_scale``."""
        h = normalized(self.decoder.final_norm, x)
        if self.decoder.exact_head is not None:
            return exact_linear(self.decoder.exact_head, h, wide=True)
        return np.concatenate([self.head(h[at:at + LOGIT_ROWS], wide=True)
                               for at in range(0, len(h), LOGIT_ROWS)])

    def next_token(self, x: Ints) -> int:
        """Token with the largest logit behind the last of the residuals, the lowest on a tie."""
        return int(self.logits(x[-1:])[0].argmax())

    def prepared_layer(self, index: int) -> PreparedLayer:
        """Layer ``index`` ready to run; kept while ``kept_bytes`` allow it."""
        if index not in self.prepared:
            made = PreparedLayer(self.decoder.layer(index))
            if self.prepared_bytes + made.bytes > self.kept_bytes:
                return made
            self.prepared[index] = made
            self.prepared_bytes += made.bytes
        return self.prepared[index]

    def _heads(self, x: Ints) -> Ints:
        return x.reshape(len(x), -1, self.decoder.head_stride)

    def _normed_and_rotated(self, x: Ints, norm: NormParameters | None, first: int) -> Ints:
        """Queries or keys [T, heads, stride] behind their norm and the rotary embedding."""
        tokens, heads, stride = x.shape
        if norm is not None:
            width = len(norm.weight)
            y = np.zeros_like(x)
            y[..., :width] = normalized(norm, x[..., :width].reshape(-1, width)).reshape(
                tokens, heads, width)
            x = y
        if self.decoder.rotations is None:
            return x
        table = np.repeat(self.decoder.rotations[first:first + tokens], heads, axis=0)
        return rotate(x.reshape(-1, stride), table).reshape(x.shape)

    def _hidden(self, prepared: PreparedLayer, h: Ints) -> Ints:
        """Input of down."""
        y, rotation = self._activated(prepared, h), prepared.layer.activation.rotation
        return y if rotation is None else hadamard(y, rotation.length_bits, rotation.shift)

    def _activated(self, prepared: PreparedLayer, h: Ints) -> Ints:
        """Results of the MLP's function."""
        function, up = prepared.layer.activation, prepared.linear("up", h)
        if not function.gated:
            return activate(up, function.base, function.delta, None, 0)
        if function.factor_base is not None and function.factor_delta is not None:
            up = activate(up, function.factor_base, function.factor_delta, None, 0)
        gate = prepared.linear("gate", h)
        return activate(gate, function.base, function.delta, up, function.shift)


def normalized(norm: NormParameters, x: Ints) -> Ints:
    """`hw.golden.norm.normalize` with a norm's constants."""
    return normalize(x, norm.weight, norm.bias, norm.shift, norm.inverse, norm.epsilon,
                     norm.center)
