"""A layer's instructions in three stages, of which only attention depends on where its tokens are.

What is before and behind attention is emitted once for passes of as many tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from compiler.decoder.quantized import QuantizedDecoder, QuantizedLayer
from compiler.image.program import Task
from compiler.lower.attention import Span
from compiler.lower.context import Context, Place
from compiler.lower.layer import LayerEmitter, prepare_layer


@dataclass(frozen=True)
class Stage:
    """Instructions, and what the constant regions hold that they name first."""

    tasks: Sequence[Task]
    constants: Mapping[str, Callable[[], bytes]]


@dataclass(frozen=True)
class Held:
    """What a stage leaves to the next one: tensors, room in the stores, the accumulator's bank."""

    places: Mapping[str, Place]
    stores: Sequence[tuple[Mapping[int, int], int]]
    bank: int
    listed: str | None

    @classmethod
    def of(cls, context: Context) -> Held:
        """State of a context in which no operand is prepared."""
        assert not context.operands
        return cls(dict(context.places), [(dict(store.used), store.pointer)
                                          for store in context.stores], context.bank,
                   context.listed)

    def give(self, context: Context) -> None:
        """Take up where a stage ended."""
        context.places, context.bank, context.listed = dict(self.places), self.bank, self.listed
        for store, (used, pointer) in zip(context.stores, self.stores, strict=True):
            store.used, store.pointer = dict(used), pointer


def taken(context: Context) -> Stage:
    """What a context has emitted, which then begins anew."""
    stage = Stage(tuple(context.tasks), context.constants)
    context.tasks, context.constants = [], {}
    return stage


class LayerStages:
    """Emits a layer for passes of all lengths; residual_words: of its normalized rows."""

    def __init__(
        self, decoder: QuantizedDecoder, layer: QuantizedLayer, residual_words: int
    ) -> None:
        self.decoder, self.layer = decoder, layer
        self.residual = Place(0, 2 * residual_words)
        self.prepared = prepare_layer(decoder, layer, residual_words)
        self.projected: dict[Hashable, tuple[Stage, Held]] = {}
        self.finished: dict[Hashable, Stage] = {}

    def begun(self, tokens_max: int, tokens: int, dry: bool = False) -> tuple[LayerEmitter, Stage]:
        """An emitter behind the projections of so many tokens, and their instructions."""
        emitter = LayerEmitter(self.decoder, self.layer, self.prepared, tokens_max, self.residual,
                               tokens)
        emitter.context.dry = dry
        key = tokens_max, tokens, dry
        if key not in self.projected:
            emitter.project()
            self.projected[key] = taken(emitter.context), Held.of(emitter.context)
        stage, held = self.projected[key]
        held.give(emitter.context)
        return emitter, stage

    def ended(self, emitter: LayerEmitter) -> Stage:
        """What comes behind attention."""
        context = emitter.context
        key = (emitter.tokens_max, emitter.tokens, context.dry, context.bank,
               *(store.pointer for store in context.stores))
        if key not in self.finished:
            emitter.finish()
            self.finished[key] = taken(context)
        return self.finished[key]

    def emit(self, tokens_max: int, span: Span) -> list[Stage]:
        """All instructions; raises OutOfSpaceError when the stores are too small.

        tokens_max: tokens that column tiles and places are made for, the same in every pass.
        """
        emitter, first = self.begun(tokens_max, span.tokens)
        emitter.attend(span)
        attention = taken(emitter.context)
        return [first, attention, self.ended(emitter)]

    def check(self, tokens_max: int, span: Span) -> None:
        """Raise what `emit` would raise."""
        emitter, _ = self.begun(tokens_max, span.tokens, dry=True)
        emitter.release("k.y", "v.y")
        emitter.attention_stages(span).close()
        emitter.release("q.y")
        self.ended(emitter)
