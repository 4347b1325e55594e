"""Skipped positions: which inputs of a linear layer count as 0, and which records are still read.

In decode a lookup engine that computes its rows reads a record of codebooks and indices for every
position. A position whose activations are all 0 adds nothing, so that its record need not be read.
Small activations are made 0 by the rule of WINA (Chen et al. 2025, "WINA: Weight Informed Neuron
Activation for Accelerating Large Language Model Inference"): an input counts by its magnitude times
the norm of its weight column.
"""

from __future__ import annotations

import numpy as np

from hw.fixed import Ints
from hw.golden.lookup import row_offset


def kept_positions(x: Ints, thresholds: Ints, length: int) -> Ints:
    """Whether any of a position's inputs exceeds its threshold in magnitude: bool [tokens, P].

    x: int16 [tokens, P * length]; thresholds: int16 [P * length], not negative.
    """
    above = np.abs(x.astype(np.int32)) > thresholds
    return np.asarray(above.reshape(len(x), -1, length).any(axis=2))


def drop_positions(q: Ints, x: Ints, thresholds: Ints, length: int) -> Ints:
    """``q`` with the inputs of all other positions 0; the token's scale stays that of all inputs.

    q: int8 [tokens, P * length] of `hw.golden.quantize.quantize`; x, thresholds, length: as for
    `kept_positions`.
    """
    kept = np.repeat(kept_positions(x, thresholds, length), length, axis=1)
    return np.where(kept, q, 0).astype(q.dtype)


def listed_records(q: Ints, length: int, ports: int) -> list[Ints]:
    """Records that each weight port still reads for one token, in order.

    q: int8 [rounds, word elements]. Port ``p`` has the same share of every round's positions;
    record ``round * share + lane`` is listed unless all ``length`` activations are 0.
    """
    rounds = len(q)
    present = np.asarray(q.reshape(rounds, ports, -1, length).any(axis=3))
    return [np.flatnonzero(present[:, port]) for port in range(ports)]


def listed_rounds(q: Ints, length: int, ports: int) -> int:
    """Rounds that the longest list fills, at least one."""
    share = int(q.shape[1]) // length // ports
    longest = max(len(records) for records in listed_records(q, length, ports))
    return max(1, -(-longest // share))


def skipped_offset(rounds: int, listed: int, positions: int, row_bits: int) -> int:
    """What the skipped rounds would have added to every sum: each row entry has an offset."""
    return (rounds - listed) * positions * row_offset(row_bits)
