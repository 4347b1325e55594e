"""Greedy text generation on the golden decoder."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.decoder.golden import GoldenDecoder, KeyValues
from compiler.decoder.quantized import QuantizedDecoder


def generate(
    decoder: QuantizedDecoder | GoldenDecoder, prompt: Sequence[int], count: int,
    state: KeyValues | None = None, end: int | None = None,
) -> list[int]:
    """The ``count`` tokens that follow a prompt, each the one with the largest logit.

    state: a cache that holds what came before the prompt; it is continued. end: token behind which
    nothing more is made. The last token made is not in the cache. Raises CompileError when the
    cache is full.
    """
    golden = decoder if isinstance(decoder, GoldenDecoder) else GoldenDecoder(decoder)
    state = golden.new_state() if state is None else state
    made: list[int] = []
    following = list(prompt)
    while len(made) < count:
        made.append(golden.next_token(golden.run(following, state)))
        if made[-1] == end:
            break
        following = made[-1:]
    return made
