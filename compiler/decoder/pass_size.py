"""How many tokens a pass has, and whether its halves take turns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from compiler.decoder.quantized import QuantizedDecoder, QuantizedLayer
from compiler.errors import CompileError
from compiler.lower.allocate import OutOfSpaceError
from compiler.lower.attention import Span
from compiler.lower.halves import Halves, worthwhile_tokens
from compiler.lower.passes import PassEmitter

EmitterOf = Callable[[Halves], PassEmitter]
Trials = Callable[[int], Iterable[Span]]
"""Spans of passes of at most so many tokens, one of each need of room."""


def largest_pass(
    decoder: QuantizedDecoder, prompt_tokens: int, emitter_of: EmitterOf, trials: Trials
) -> Halves:
    """Most tokens of a pass for which the stores hold every pass, in halves if that pays.

    Raises CompileError in one line when the hardware holds none, or fewer than a token rule ranks.
    """
    ruled = decoder.pass_tokens
    wanted = min(ruled or decoder.hardware.tokens_max, prompt_tokens)
    if not ruled and wanted > 1:
        part = worthwhile_part(decoder, emitter_of)
        if wanted >= 2 * part:
            cut = fitting(decoder, Halves(wanted, 2, 2 * part), emitter_of, trials)
            if cut is not None and cut.tokens_max >= 2 * part:
                return cut
    found = fitting(decoder, Halves(wanted), emitter_of, trials)
    assert found is not None
    if ruled and found.tokens_max < wanted:
        raise CompileError(
            f"hardware {decoder.hardware.name} holds passes of {found.tokens_max} tokens, the "
            f"token_rule of scheme {decoder.scheme} ranks {wanted}; use a scheme file of your own "
            f"with tokens: {found.tokens_max} under token_rule")
    return found


def worthwhile_part(decoder: QuantizedDecoder, emitter_of: EmitterOf) -> int:
    """Tokens of a half that is worth cutting, by the layer that asks for most."""
    emitter, part = emitter_of(Halves(1)), 1
    for index in decoder.forms:
        try:
            stages = emitter.stages(decoder.layer(index), Span(0, 1))
        except OutOfSpaceError:
            return decoder.hardware.tokens_max
        tasks = (task for stage in stages for task in stage.tasks)
        part = max(part, worthwhile_tokens(tasks, decoder.hardware))
    return part


def fitting(
    decoder: QuantizedDecoder, halves: Halves, emitter_of: EmitterOf, trials: Trials
) -> Halves | None:
    """At most these: the most for which the stores hold every pass of all layers.

    None where halves of one token do not fit; raises CompileError where whole passes do not.
    """
    for index in decoder.forms:
        layer = decoder.layer(index)
        while (error := misfit(layer, halves, emitter_of, trials)) is not None:
            if halves.tokens_max == halves.parts:
                if halves.parts > 1:
                    return None
                raise CompileError(
                    f"hardware {decoder.hardware.name}: {error.store} holds {error.size}, too few "
                    f"even for one token ({error.needed} more are needed); use larger hardware or "
                    "a shorter context") from None
            halves = dataclasses.replace(
                halves, tokens_max=max(halves.parts, error.most(halves.tokens_max)))
    return halves


def misfit(
    layer: QuantizedLayer, halves: Halves, emitter_of: EmitterOf, trials: Trials
) -> OutOfSpaceError | None:
    """Why the stores do not hold every pass of a layer."""
    emitter = emitter_of(halves)
    try:
        for span in trials(halves.tokens_max):
            emitter.check(layer, span)
        emitter.next_token(Span(0, halves.tokens_max))
    except OutOfSpaceError as error:
        return error
    return None
