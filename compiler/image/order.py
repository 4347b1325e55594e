"""Checks the order of a program's instructions: deadlock, token overflow, happens-before."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from compiler.errors import VerifyError
from compiler.image.hazards import conflicts
from compiler.image.program import Access, engine_names
from hw.isa import ENGINE_OF, TOKEN_COUNT_BITS, Engine, Opcode

Instruction = tuple[Opcode, Mapping[str, int]]
QUEUE_DEPTH = 4
"""Instructions that an engine's queue holds, the running one included."""
QUEUE_SLACK = 8
"""Queue depth assumed where a deeper queue is the worse case."""


class Execution:
    """Abstract run: an instruction takes its tokens, completes and posts in one step.

    Each pair's tokens are taken by one engine in its order, so that whether the run gets stuck
    does not depend on who goes first.
    """

    def __init__(self, program: Sequence[Instruction], depth: int) -> None:
        self.program, self.depth = program, depth
        self.queues: dict[Engine, deque[int]] = {engine: deque() for engine in Engine}
        self.tokens: dict[tuple[Engine, Engine], int] = {}
        self.most: dict[tuple[Engine, Engine], int] = {}
        self.dispatched = 0
        self.order: list[int] = []

    def dispatch(self) -> None:
        """Hand out instructions in order until a queue is full."""
        while self.dispatched < len(self.program):
            queue = self.queues[ENGINE_OF[self.program[self.dispatched][0]]]
            if len(queue) == self.depth:
                return
            queue.append(self.dispatched)
            self.dispatched += 1

    def step(self, engine: Engine) -> bool:
        """Run the instruction at the head of a queue; False when it cannot start."""
        if not self.queues[engine]:
            return False
        index = self.queues[engine][0]
        fields = self.program[index][1]
        pairs = [(other, engine) for other in Engine if fields["wait"] >> other & 1]
        if any(not self.tokens.get(pair) for pair in pairs):
            return False
        self.queues[engine].popleft()
        for pair in pairs:
            self.tokens[pair] -= 1
        for other in Engine:
            if fields["post"] >> other & 1:
                pair = engine, other
                self.tokens[pair] = self.tokens.get(pair, 0) + 1
                self.most[pair] = max(self.most.get(pair, 0), self.tokens[pair])
        self.order.append(index)
        self.dispatch()
        return True

    def run(self, lazy: Engine | None = None) -> None:
        """Run until nothing can start; ``lazy`` goes only when no other engine can."""
        self.dispatch()
        eager = [engine for engine in Engine if engine != lazy]
        while any(self.step(engine) for engine in eager) or (
            lazy is not None and self.step(lazy)
        ):
            pass


def check_tokens(program: Sequence[Instruction]) -> list[int]:
    """Instructions in an order in which they can run.

    Raises VerifyError for a deadlock, for tokens left over, and for a token count that can
    overflow (its consumer being as late as possible).
    """
    run = Execution(program, QUEUE_DEPTH)
    run.run()
    if len(run.order) < len(program):
        index = min(queue[0] for queue in run.queues.values() if queue)
        opcode, fields = program[index]
        engine = ENGINE_OF[opcode]
        missing = [name for name in engine_names(fields["wait"])
                   if not run.tokens.get((Engine[name.upper()], engine))]
        raise VerifyError(f"instruction {index} ({opcode.name}): deadlock, it waits for a token "
                          f"of {', '.join(missing)} that never comes")
    for (producer, consumer), count in run.tokens.items():
        if count:
            raise VerifyError(f"{producer.name.lower()} posts {count} tokens for "
                              f"{consumer.name.lower()} that nothing takes")
    for lazy in Engine:
        late = Execution(program, QUEUE_SLACK)
        late.run(lazy)
        for (producer, consumer), count in late.most.items():
            if count >= 1 << TOKEN_COUNT_BITS:
                raise VerifyError(f"up to {count} tokens of {producer.name.lower()} for "
                                  f"{consumer.name.lower()}, the counter holds "
                                  f"{(1 << TOKEN_COUNT_BITS) - 1}")
    return run.order


def completed_before(
    program: Sequence[Instruction], order: Sequence[int]
) -> list[dict[Engine, int]]:
    """For every instruction the last one of each engine that is complete before it starts.

    The k-th wait of a pair takes the token of the pair's k-th post. ``order`` is any order in
    which the program can run.
    """
    posts: dict[tuple[Engine, Engine], list[int]] = {}
    for index, (opcode, fields) in enumerate(program):
        for other in Engine:
            if fields["post"] >> other & 1:
                posts.setdefault((ENGINE_OF[opcode], other), []).append(index)
    taken: dict[tuple[Engine, Engine], int] = {}
    last: dict[Engine, int] = {}
    result: list[dict[Engine, int]] = [{} for _ in program]
    for index in order:
        engine = ENGINE_OF[program[index][0]]
        before: list[int] = [last[engine]] if engine in last else []
        for other in Engine:
            if program[index][1]["wait"] >> other & 1:
                pair = other, engine
                before.append(posts[pair][taken.get(pair, 0)])
                taken[pair] = taken.get(pair, 0) + 1
        known: dict[Engine, int] = {}
        for earlier in before:
            own = {ENGINE_OF[program[earlier][0]]: earlier}
            for source in (result[earlier], own):
                for other, latest in source.items():
                    known[other] = max(known.get(other, -1), latest)
        result[index] = known
        last[engine] = index
    return result


def check_conflicts(
    program: Sequence[Instruction], touched: Sequence[Sequence[Access]], order: Sequence[int]
) -> None:
    """Raise VerifyError when conflicting accesses are not ordered by tokens."""
    known = completed_before(program, order)
    engines = [ENGINE_OF[opcode] for opcode, _ in program]
    for index, follows in enumerate(conflicts(list(zip(engines, touched, strict=True)))):
        for engine, earlier in follows.items():
            if known[index].get(engine, -1) < earlier:
                raise VerifyError(
                    f"instruction {index} ({program[index][0].name}): can overlap instruction "
                    f"{earlier} ({program[earlier][0].name}), which touches the same words")
