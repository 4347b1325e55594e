"""Checks the order of a program's instructions: deadlock, token overflow, happens-before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from compiler.errors import VerifyError
from compiler.image.access import Access
from compiler.image.hazards import conflicts
from compiler.image.program import Instruction, Step, engine_names, steps
from hw.isa import ENGINE_OF, QUEUE_DEPTH, TOKEN_COUNT_BITS, Engine, Opcode

Pair = tuple[Engine, Engine]
ENGINES = tuple(Engine)
QUEUE_SLACK = 2 * QUEUE_DEPTH
"""Queue depth assumed where a deeper queue is the worse case."""
LAG_ITERATIONS = QUEUE_SLACK + 2
"""Iterations of a loop that can be under way: each engine of it has a waiting instruction each."""


def engines_of(mask: int) -> list[Engine]:
    """Engines of a wait or post mask."""
    return [engine for engine in ENGINES if mask >> engine & 1]


def posted(program: Iterable[Step]) -> dict[Pair, int]:
    """Tokens that each pair is given in all."""
    result: dict[Pair, int] = {}
    for step in program:
        for other in engines_of(step.fields["post"]):
            pair = ENGINE_OF[step.opcode], other
            result[pair] = result.get(pair, 0) + 1
    return result


def check_balance(program: Sequence[Instruction]) -> None:
    """Raise VerifyError unless every loop iteration takes as many tokens of a pair as it posts."""
    for index, (opcode, fields) in enumerate(program):
        if opcode != Opcode.LOOP:
            continue
        balance: dict[Pair, int] = {}
        for own_opcode, own in program[index + 1:index + 1 + fields["length"]]:
            engine = ENGINE_OF[own_opcode]
            for other in engines_of(own["post"]):
                balance[engine, other] = balance.get((engine, other), 0) + 1
            for other in engines_of(own["wait"]):
                balance[other, engine] = balance.get((other, engine), 0) - 1
        for (producer, consumer), count in balance.items():
            if count:
                raise VerifyError(
                    f"instruction {index} (LOOP): an iteration changes the tokens of "
                    f"{producer.name.lower()} for {consumer.name.lower()} by {count}")


class Execution:
    """Abstract run: an instruction takes its tokens, completes and posts in one step.

    Each pair's tokens are taken by one engine in its order, so that whether the run gets stuck
    does not depend on who goes first.
    """

    def __init__(self, program: Sequence[Step], depth: int) -> None:
        self.program, self.depth = program, depth
        self.queues: dict[Engine, deque[int]] = {engine: deque() for engine in Engine}
        self.engines = [ENGINE_OF[step.opcode] for step in program]
        self.waits = [engines_of(step.fields["wait"]) for step in program]
        self.posts = [engines_of(step.fields["post"]) for step in program]
        self.tokens: dict[Pair, int] = {}
        self.most: dict[Pair, int] = {}
        self.dispatched = 0
        self.order: list[int] = []

    def dispatch(self) -> None:
        """Hand out instructions in order until a queue is full."""
        while self.dispatched < len(self.program):
            queue = self.queues[self.engines[self.dispatched]]
            if len(queue) == self.depth:
                return
            queue.append(self.dispatched)
            self.dispatched += 1

    def step(self, engine: Engine) -> bool:
        """Run the instruction at the head of a queue; False when it cannot start."""
        if not self.queues[engine]:
            return False
        index = self.queues[engine][0]
        pairs = [(other, engine) for other in self.waits[index]]
        if any(not self.tokens.get(pair) for pair in pairs):
            return False
        self.queues[engine].popleft()
        for pair in pairs:
            self.tokens[pair] -= 1
        for other in self.posts[index]:
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


def check_tokens(program: Sequence[Step]) -> list[int]:
    """Places in the order in which the instructions can run.

    Raises VerifyError for a deadlock and for tokens left over.
    """
    run = Execution(program, QUEUE_DEPTH)
    run.run()
    if len(run.order) < len(program):
        step = program[min(queue[0] for queue in run.queues.values() if queue)]
        engine = ENGINE_OF[step.opcode]
        missing = [name for name in engine_names(step.fields["wait"])
                   if not run.tokens.get((Engine[name.upper()], engine))]
        raise VerifyError(f"instruction {step.index} ({step.opcode.name}): deadlock, it waits for "
                          f"a token of {', '.join(missing)} that never comes")
    for (producer, consumer), count in run.tokens.items():
        if count:
            raise VerifyError(f"{producer.name.lower()} posts {count} tokens for "
                              f"{consumer.name.lower()} that nothing takes")
    return run.order


def check_overflow(program: Sequence[Instruction]) -> None:
    """Raise VerifyError when a token count can overflow, its consumer as late as possible."""
    unrolled = list(steps(program, LAG_ITERATIONS))
    if max(posted(unrolled).values(), default=0) < 1 << TOKEN_COUNT_BITS:
        return
    for lazy in Engine:
        late = Execution(unrolled, QUEUE_SLACK)
        late.run(lazy)
        for (producer, consumer), count in late.most.items():
            if count >= 1 << TOKEN_COUNT_BITS:
                raise VerifyError(f"up to {count} tokens of {producer.name.lower()} for "
                                  f"{consumer.name.lower()}, the counter holds "
                                  f"{(1 << TOKEN_COUNT_BITS) - 1}")


def completed_before(program: Sequence[Step], order: Sequence[int]) -> list[dict[Engine, int]]:
    """For every instruction the last one of each engine that is complete before it starts.

    The k-th wait of a pair takes the token of the pair's k-th post. ``order`` is any order in
    which the program can run.
    """
    engines = [ENGINE_OF[step.opcode] for step in program]
    posts: dict[Pair, list[int]] = {}
    for index, step in enumerate(program):
        for other in engines_of(step.fields["post"]):
            posts.setdefault((engines[index], other), []).append(index)
    taken: dict[Pair, int] = {}
    last: dict[Engine, int] = {}
    result: list[dict[Engine, int]] = [{} for _ in program]
    for index in order:
        engine = engines[index]
        before: list[int] = [last[engine]] if engine in last else []
        for other in engines_of(program[index].fields["wait"]):
            pair = other, engine
            before.append(posts[pair][taken.get(pair, 0)])
            taken[pair] = taken.get(pair, 0) + 1
        known: dict[Engine, int] = {}
        for earlier in before:
            for source in (result[earlier], {engines[earlier]: earlier}):
                for other, latest in source.items():
                    if known.get(other, -1) < latest:
                        known[other] = latest
        result[index] = known
        last[engine] = index
    return result


def check_conflicts(
    program: Sequence[Step], touched: Sequence[Sequence[Access]], order: Sequence[int]
) -> None:
    """Raise VerifyError when conflicting accesses are not ordered by tokens."""
    known = completed_before(program, order)
    engines = [ENGINE_OF[step.opcode] for step in program]
    for index, follows in enumerate(conflicts(list(zip(engines, touched, strict=True)))):
        for engine, earlier in follows.items():
            if known[index].get(engine, -1) < earlier:
                late, early = program[index], program[earlier]
                raise VerifyError(
                    f"instruction {late.index} ({late.opcode.name}): can overlap instruction "
                    f"{early.index} ({early.opcode.name}), which touches the same words")
