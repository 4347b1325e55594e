"""Two halves of a prefill pass: while one computes, the engines beside prepare the other.

Norms, quantizers and softmax of a pass wait for its products and its products for them. Halves of
the tokens take turns on the linear engine instead. Each reads all weights, which costs no time
where its products take longer than that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from compiler.image.access import port_region
from compiler.image.program import Task
from compiler.image.records import RecordFormat
from compiler.lower.attention import Span
from hw.config import HardwareConfig
from hw.isa import LutMode, Opcode

START_CYCLES = 64
"""About what a LUT or SIMD takes before its first and behind its last product."""


def larger_half(tokens: int) -> int:
    """Tokens of the first half: a few more, as what the second waits for starts behind it."""
    return tokens - (19 * tokens + 20) // 40


@dataclass(frozen=True)
class Halves:
    """Into what passes are cut.

    tokens_max: tokens of the largest pass. parts: 1 or 2. least: tokens of a pass that is worth
    cutting, at least 2.
    """

    tokens_max: int
    parts: int = 1
    least: int = 2

    @property
    def part_tokens(self) -> int:
        """Tokens of the largest part, which column tiles and places are made for."""
        return self.tokens_max if self.parts == 1 else larger_half(self.tokens_max)

    def spans(self, span: Span) -> list[Span]:
        """Parts of a pass."""
        if self.parts == 1 or (span.tokens <= self.part_tokens and span.tokens < self.least):
            return [span]
        first = larger_half(span.tokens)
        return [Span(span.position, first), Span(span.position + first, span.tokens - first)]


def steps_and_words(task: Task, config: HardwareConfig) -> tuple[int, int]:
    """Cycles of products for a token, and port words read for all, of a LUT or SIMD."""
    fields = task.fields
    if task.opcode == Opcode.LUT:
        words = RecordFormat.of(fields, config).round_words
        if fields["mode"] == LutMode.GATHER:
            words -= config.positions_per_port * fields["table_words"]
        return (fields["rounds"] * fields["slices"] * fields["blocks"],
                fields["rounds"] * words)
    return (fields["rounds"] * config.chunks_per_word * fields["blocks"],
            port_region(task.opcode, fields, config) // config.port_bytes)


def worthwhile_tokens(tasks: Iterable[Task], config: HardwareConfig) -> int:
    """Tokens of a half whose products take as long as reading the weights; at least 1.

    tasks: of a layer, for one token.
    """
    steps = words = 0
    for task in tasks:
        if task.opcode in (Opcode.LUT, Opcode.SIMD) and not task.fields.get("volatile"):
            more_steps, more_words = steps_and_words(task, config)
            steps, words = steps + more_steps, words + more_words + START_CYCLES
    return max(1, -(-words // max(1, steps)))
