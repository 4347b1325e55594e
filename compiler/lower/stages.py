"""A layer's instructions in steps; those that do not depend on where its tokens are, once.

The halves of a pass (`compiler.lower.halves`) take turns: each engine keeps the order of its
instructions, so the order of the list is what lets one half prepare while the other computes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from compiler.decoder.quantized import QuantizedDecoder, QuantizedLayer
from compiler.image.program import Task
from compiler.lower.allocate import Share
from compiler.lower.attention import Span
from compiler.lower.context import Context, Operand, Place
from compiler.lower.halves import Halves
from compiler.lower.layer import LayerEmitter, Room, prepare_layer


@dataclass(frozen=True)
class Stage:
    """Instructions, and what the constant regions hold that they name first."""

    tasks: Sequence[Task]
    constants: Mapping[str, Callable[[], bytes]]


@dataclass(frozen=True)
class State:
    """What a step leaves to the next one: tensors, operands, room in the stores, the bank."""

    places: tuple[tuple[str, Place], ...]
    operands: tuple[tuple[str, tuple[int | None, int, bool, int, int]], ...]
    stores: tuple[tuple[tuple[tuple[int, int], ...], int], ...]
    bank: int
    listed: str | None

    @classmethod
    def of(cls, context: Context) -> State:
        """State of a context."""
        return cls(
            tuple(context.places.items()),
            tuple((name, (held.start, held.rounds, held.done, held.alphas, held.scales))
                  for name, held in context.operands.items()),
            tuple((tuple(store.used.items()), store.pointer) for store in context.stores),
            context.bank, context.listed)

    def give(self, context: Context) -> None:
        """Take up where a step ended."""
        context.places = dict(self.places)
        context.operands = {name: Operand(*held) for name, held in self.operands}
        for store, (used, pointer) in zip(context.stores, self.stores, strict=True):
            store.used, store.pointer = dict(used), pointer
        context.bank, context.listed = self.bank, self.listed


@dataclass(frozen=True)
class Step:
    """Some instructions of a layer; ``placed``: they depend on where its tokens are."""

    emit: Callable[[LayerEmitter, Span], None]
    placed: bool


def anywhere(emit: Callable[[LayerEmitter], None]) -> Step:
    """A step that is the same at all positions."""
    return Step(lambda emitter, span: emit(emitter), placed=False)


NORMALIZE = (anywhere(LayerEmitter.normalize),)
SCORED = (anywhere(LayerEmitter.keys), Step(LayerEmitter.rotate_keys, placed=True),
          anywhere(LayerEmitter.queries), Step(LayerEmitter.rotate_queries, placed=True))
VALUES = (anywhere(LayerEmitter.values), Step(LayerEmitter.append, placed=True))
ATTENTION = (Step(LayerEmitter.attention, placed=True),)
OUTPUT = (anywhere(LayerEmitter.output),)
EXPAND = (anywhere(LayerEmitter.expand),)
CONTRACT = (anywhere(LayerEmitter.contract),)

ORDERS: Mapping[int, Sequence[tuple[int, Sequence[Step]]]] = {
    1: [(0, (*NORMALIZE, *SCORED, *VALUES, *ATTENTION, *OUTPUT, *EXPAND, *CONTRACT))],
    2: [(0, NORMALIZE), (1, NORMALIZE), (0, (*SCORED, *VALUES)), (1, SCORED), (0, ATTENTION),
        (1, VALUES), (0, OUTPUT), (1, (*ATTENTION, *OUTPUT)), (0, EXPAND), (1, EXPAND),
        (0, CONTRACT), (1, CONTRACT)],
}
"""Turns of the parts of a pass. The products of a turn follow each other without waiting for other
engines; what the next ones of its half wait for is prepared in turns of the other half."""


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
        self.stride = 2 * residual_words
        self.prepared = prepare_layer(decoder, layer, residual_words)
        self.emitted: dict[Hashable, tuple[Stage, State]] = {}

    def emitters(self, halves: Halves, spans: Sequence[Span]) -> Iterator[LayerEmitter]:
        """One for each part of a pass."""
        for part, span in enumerate(spans):
            start = (span.position - spans[0].position) * self.stride
            room = Room(halves.part_tokens, Place(start, self.stride),
                        halves.tokens_max * self.stride, Share(part, halves.parts))
            yield LayerEmitter(self.decoder, self.layer, self.prepared, room, span.tokens)

    def run(self, step: Step, emitter: LayerEmitter, span: Span) -> Stage:
        """Instructions of a step."""
        context = emitter.context
        if step.placed:
            step.emit(emitter, span)
            return taken(context)
        key = step, emitter.room, emitter.tokens, context.dry, State.of(context)
        if key not in self.emitted:
            step.emit(emitter, span)
            self.emitted[key] = taken(context), State.of(context)
        stage, state = self.emitted[key]
        state.give(context)
        return stage

    def emit(self, halves: Halves, span: Span, dry: bool = False) -> list[Stage]:
        """All instructions; raises OutOfSpaceError when the stores are too small.

        dry: only room is asked for.
        """
        spans = halves.spans(span)
        emitters = list(self.emitters(halves, spans))
        stages, bank = [], 0
        for part, steps in ORDERS[len(spans)]:
            context = emitters[part].context
            # Products of both halves alternate between the accumulator's banks.
            context.bank, context.dry = bank, dry
            stages += [self.run(step, emitters[part], spans[part]) for step in steps]
            bank = context.bank
        return stages
