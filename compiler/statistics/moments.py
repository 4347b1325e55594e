"""Streamed statistics of a tensor's channels: ranges, central moments, second moments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compiler.expression import Floats


@dataclass(frozen=True)
class Moments:
    """Count, mean and sums of the second to fourth power of the distance from it, by channel."""

    count: int
    mean: Floats
    second: Floats
    third: Floats
    fourth: Floats

    @classmethod
    def of(cls, x: Floats) -> Moments:
        """Of values [T, D], in float64."""
        exact = x.astype(np.float64)
        mean = exact.mean(axis=0)
        gap = exact - mean
        square = gap * gap
        return cls(len(x), mean, square.sum(axis=0), (square * gap).sum(axis=0),
                   (square * square).sum(axis=0))

    def merged(self, other: Moments) -> Moments:
        """Of both sets of values (Pébay, "Formulas for Robust, One-Pass Parallel Computation of
        Covariances and Arbitrary-Order Statistical Moments", 2008, section 2.1).
        """
        a, b = float(self.count), float(other.count)
        count, gap = a + b, other.mean - self.mean
        second = self.second + other.second + gap**2 * a * b / count
        third = (self.third + other.third + gap**3 * a * b * (a - b) / count**2
                 + 3 * gap * (a * other.second - b * self.second) / count)
        fourth = (self.fourth + other.fourth
                  + gap**4 * a * b * (a * a - a * b + b * b) / count**3
                  + 6 * gap**2 * (a * a * other.second + b * b * self.second) / count**2
                  + 4 * gap * (a * other.third - b * self.third) / count)
        return Moments(self.count + other.count, self.mean + gap * b / count, second, third, fourth)

    def pooled(self) -> Moments:
        """Of the values of all channels together, one channel."""
        mean = self.mean.mean()
        gap, count = self.mean - mean, self.count
        second = self.second + count * gap**2
        third = self.third + 3 * gap * self.second + count * gap**3
        fourth = (self.fourth + 4 * gap * self.third + 6 * gap**2 * self.second
                  + count * gap**4)
        return Moments(count * len(gap), mean[None], second.sum()[None], third.sum()[None],
                       fourth.sum()[None])

    @property
    def deviation(self) -> Floats:
        """Standard deviation of each channel."""
        y: Floats = np.sqrt(self.second / self.count)
        return y

    @property
    def kurtosis(self) -> Floats:
        """Fourth central moment over the squared variance of each channel; a Gaussian has 3."""
        y: Floats = self.count * self.fourth / np.maximum(self.second**2, 1e-300)
        return y


class ChannelStatistics:
    """Of one tensor, added up window by window.

    lowest, highest: of each channel; moments: `Moments`; hessian: sum of ``x x^T`` over tokens,
    float64 [D, D], the second moment that weight methods start from (`compiler.quant.hessian`).
    """

    def __init__(self, channels: int) -> None:
        self.lowest = np.full(channels, np.inf)
        self.highest = np.full(channels, -np.inf)
        self.moments: Moments | None = None
        self.hessian = np.zeros((channels, channels))

    def add(self, x: Floats) -> None:
        """Add a window's values [T, D]."""
        self.lowest = np.minimum(self.lowest, x.min(axis=0))
        self.highest = np.maximum(self.highest, x.max(axis=0))
        made = Moments.of(x)
        self.moments = made if self.moments is None else self.moments.merged(made)
        self.hessian += x.T @ x

    @property
    def known(self) -> Moments:
        """Moments of at least one window."""
        assert self.moments is not None
        return self.moments

    @property
    def peaks(self) -> Floats:
        """Largest magnitude of each channel."""
        y: Floats = np.maximum(np.abs(self.lowest), np.abs(self.highest))
        return y
