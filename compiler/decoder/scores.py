"""Scores of predictions: sums over tokens of golden's logits beside the float model's."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

from compiler.expression import Floats
from hw.fixed import Ints


@dataclass(frozen=True)
class Scores:
    """Sums over predictions, so that windows add up.

    loss, loss_float: negative log probabilities of the tokens that follow, in nats.
    divergence: Kullback-Leibler divergences of golden's distribution from the float model's,
    ``sum_k p_k log(p_k / q_k)`` with p in float and q in golden, in nats. agreed: predictions
    where both name the same most likely token.
    """

    predictions: int = 0
    loss: float = 0.0
    loss_float: float = 0.0
    divergence: float = 0.0
    agreed: int = 0

    def __add__(self, other: Scores) -> Scores:
        return Scores(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def perplexity(self) -> float:
        """Of golden."""
        return float(np.exp(self.loss / self.predictions))

    @property
    def perplexity_float(self) -> float:
        """Of the float model."""
        return float(np.exp(self.loss_float / self.predictions))


def log_probabilities(logits: Floats) -> Floats:
    """Log softmax of the last axis."""
    shifted: Floats = logits - logits.max(axis=-1, keepdims=True)
    total = np.exp(shifted).sum(axis=-1, keepdims=True, dtype=np.float64)
    shifted -= np.log(total).astype(shifted.dtype)
    return shifted


def score(logits: Ints, step: float, logits_float: Floats, following: Ints) -> Scores:
    """Scores of golden's logits [T, vocabulary] in steps by the tokens [T] that follow them."""
    golden = log_probabilities((logits * step).astype(np.float32))
    exact = log_probabilities(logits_float)
    at = np.arange(len(following))
    divergence = (np.exp(exact) * (exact - golden)).sum(dtype=np.float64)
    return Scores(
        predictions=len(following), loss=-float(golden[at, following].sum(dtype=np.float64)),
        loss_float=-float(exact[at, following].sum(dtype=np.float64)),
        divergence=float(divergence),
        agreed=int((logits.argmax(axis=1) == logits_float.argmax(axis=1)).sum()))
