"""Allocation of on-chip words: next fit, so that freed words rest before they are used again."""

from __future__ import annotations

from dataclasses import dataclass, field


class OutOfSpaceError(Exception):
    """A store is too small for this many tokens; the tiler then tries fewer.

    held: words that were in use, where they and those needed shrink with the tokens at most as
    fast as these; else None. parts: equal ones that the tokens are cut into; `held` is of all.
    """

    def __init__(
        self, store: str, needed: int, size: int, held: int | None = None, parts: int = 1
    ) -> None:
        super().__init__(store)
        self.store, self.needed, self.size, self.held = store, needed, size, held
        self.parts = parts

    def most(self, tokens: int) -> int:
        """Most tokens that the words alone leave possible, where ``tokens`` did not fit.

        Pairs of tokens may share words, so that half a pair of each part is left to them.
        """
        if self.held is None:
            return tokens - 1
        spare = 2 * self.parts - 1
        return min(tokens - 1, self.size * (tokens + spare) // (self.held + self.needed))


@dataclass(frozen=True)
class Share:
    """Part ``part`` of ``parts`` equal ones of every store."""

    part: int = 0
    parts: int = 1


WHOLE = Share()
"""All of every store."""


@dataclass
class Allocator:
    """A share of the words ``0..size - 1`` of one store.

    Searches from behind the last allocation: an engine may then write a new tensor while another
    still reads the old one. reserved: words at the store's start that are in nobody's share.
    """

    store: str
    size: int
    share: Share = WHOLE
    reserved: int = 0
    used: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        room = max(0, self.size - self.reserved) // self.share.parts
        self.first = self.reserved + room * self.share.part
        self.end = self.first + room
        self.pointer = self.first

    def gaps(self) -> list[tuple[int, int]]:
        """Free runs as (start, stop), in order."""
        result, at = [], self.first
        for start in sorted(self.used):
            if start > at:
                result.append((at, start))
            at = start + self.used[start]
        if at < self.end:
            result.append((at, self.end))
        return result

    def allocate(self, words: int) -> int:
        """First word of a new run; raises OutOfSpaceError when no gap is large enough."""
        gaps = self.gaps()
        behind = [(max(start, self.pointer), stop) for start, stop in gaps]
        for start, stop in [*behind, *gaps]:
            if stop - start >= words:
                self.used[start] = words
                self.pointer = start + words
                return start
        others = self.reserved + (self.share.parts - 1) * words
        held = others + self.share.parts * sum(self.used.values())
        raise OutOfSpaceError(self.store, words, self.size, held, self.share.parts)

    def free(self, start: int) -> None:
        """Give a run back."""
        del self.used[start]

    def largest_gap(self) -> int:
        """Words of the largest free run."""
        return max((stop - start for start, stop in self.gaps()), default=0)

    def reset(self) -> None:
        """Search from the start again; everything must be free."""
        assert not self.used
        self.pointer = self.first
