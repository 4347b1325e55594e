"""Loops of a program, of which the model works out some iterations."""

from __future__ import annotations

from hw.fixed import Ints
from sim.estimate.jit import compiled


@compiled
def period_of(ends: Ints, ran: int, left: int) -> int:
    """Iterations after which a loop's repeat, if those that are left out are a multiple; else 0.

    ends: when the last five iterations were handed out. How far prefetched weights run ahead may
    differ from one iteration to the next, and behind the loop.
    """
    cycles = ends[4] - ends[3]
    for period in (2, 3):
        before = ends[4 - period] - ends[3 - period]
        if ran >= period + 2 and left % period == 0 and 1000 * abs(cycles - before) <= cycles:
            return period
    return 0


@compiled
def iteration_ended(loop: Ints, cycle: int, most: int) -> bool:
    """Whether another iteration of a loop is to be run, after one was handed out in ``cycle``.

    loop: its iterations, those that ran, the number after which they repeat, when the last five
    were handed out. most: to be run if they do not repeat before.
    """
    for place in range(3, 7):
        loop[place] = loop[place + 1]
    loop[7] = cycle
    loop[1] += 1
    if loop[0] > most:
        loop[2] = period_of(loop[3:], loop[1], loop[0] - loop[1])
    return bool(loop[2] == 0 and loop[1] < min(loop[0], most))
