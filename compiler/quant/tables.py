"""Integer tables of activation centroids times weight centroids, fitted to a calibration text.

LUT-LLM rounds a tensor's products with one step and one zero. Here each position and group of
columns has a middle of its own, which costs nothing, as their sum is the zero of the group's
columns. The step is chosen for the tokens' relative errors, and products beyond the range are
clipped: one massive activation would otherwise make the step so wide that the products of all
other positions vanish.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from compiler.quant.kmeans import Floats
from compiler.quant.weights import VectorWeights
from hw.fixed import Ints
from hw.golden.lookup import table_sums

RANGES = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05, 0.03, 0.02, 0.01, 0.005, 0.002, 0.001,
          0.0005, 0.0002)
"""Fractions of the widest position's range that are tried."""
HOPELESS = 3.0
"""Ranges are not narrowed further when the squared error is this many times the least."""
BISECTIONS = 24


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Tables of one linear: ``y = (sum of entries + zero) * step * column's scale``.

    entries: uint8 [P, c_a, groups, c_w]; steps: float [M]; zeros: int64 [M].
    """

    entries: Ints
    steps: Floats
    zeros: Ints


class TableFit:
    """The tables of one linear on a calibration text.

    products: float32 [P, c_a, groups, c_w]; bits: of an entry; codes: uint8 [tokens, P];
    y: outputs that the sums should give, [tokens, M].
    """

    def __init__(
        self, products: Floats, weights: VectorWeights, bits: int, codes: Ints, y: Floats
    ) -> None:
        self.products, self.weights, self.codes, self.y = products, weights, codes, y
        self.levels = (1 << bits) - 1
        self.group_of = np.arange(len(weights.scales)) // weights.group_columns
        sizes = np.square(y.astype(np.float64)).sum(axis=1)
        self.token_weights = 1 / np.maximum(sizes, max(float(sizes.max()) * 1e-12, 1e-30))
        positions, act_codes, groups, weight_codes = products.shape
        self.code_uses = np.zeros((positions, act_codes))
        self.index_uses = np.zeros((positions, groups, weight_codes))
        places = np.arange(positions)
        for code, weight in zip(codes, self.token_weights, strict=True):
            self.code_uses[places, code] += weight
        for index, group, scale in zip(weights.indices.T, self.group_of, weights.scales,
                                       strict=True):
            self.index_uses[places, group, index] += float(scale) ** 2
        high, low = products.max(axis=(1, 3)), products.min(axis=(1, 3))
        self.widest = np.maximum((high - low).max(axis=0), 1e-30)

    def best(self) -> Tables:
        """Tables with the range that suits the text best."""
        least, chosen = np.inf, self.rounded(RANGES[0])
        for fraction in RANGES:
            tables = self.rounded(fraction)
            error = self.error(tables)
            if error < least:
                least, chosen = error, tables
            elif error > HOPELESS * least:
                break
        return chosen

    def error(self, tables: Tables) -> float:
        """Mean over tokens of the squared error over the squared output."""
        sums = table_sums(self.codes, tables.entries, self.weights.indices,
                          self.weights.group_columns)
        values = (sums + tables.zeros) * (tables.steps * self.weights.scales)
        return float(np.mean(np.square(values - self.y).sum(axis=1) * self.token_weights))

    def rounded(self, fraction: float) -> Tables:
        """Tables whose range is this part of the widest position's, by group."""
        steps = self.widest * fraction / self.levels
        middle = np.zeros((len(self.products), len(steps)))
        _middles(self.products, self.code_uses, self.index_uses, steps * self.levels, middle)
        made = (self.products - middle[:, None, :, None]) / steps[:, None] + self.levels / 2
        zeros = np.round((middle / steps - self.levels / 2).sum(axis=0)).astype(np.int64)
        return Tables(entries=np.clip(np.round(made), 0, self.levels).astype(np.uint8),
                      steps=steps[self.group_of].astype(np.float32), zeros=zeros[self.group_of])


@njit(cache=True)
def _middles(
    products: Floats, code_uses: Floats, index_uses: Floats, widths: Floats, middle: Floats
) -> None:
    """Middle of each position's range, with the least squared error of what is clipped."""
    positions, act_codes, groups, weight_codes = products.shape
    for p in range(positions):
        for g in range(groups):
            low, high = products[p, :, g, :].min(), products[p, :, g, :].max()
            half = widths[g] / 2
            for _ in range(BISECTIONS if high - low > widths[g] else 0):
                centre, slope = (low + high) / 2, 0.0
                for c in range(act_codes):
                    for w in range(weight_codes):
                        value = products[p, c, g, w]
                        beyond = max(value - centre - half, 0.0) + min(value - centre + half, 0.0)
                        slope += code_uses[p, c] * index_uses[p, g, w] * beyond
                if slope > 0:
                    low = centre
                else:
                    high = centre
            middle[p, g] = (low + high) / 2
