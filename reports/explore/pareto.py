"""The designs that no other beats in every objective."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def front(values: Floats) -> list[int]:
    """Rows [N, objectives], smaller better, that no other row dominates; of equal rows the first.

    A row dominates another that it is nowhere worse than and somewhere better.
    """
    # A row can only be dominated by one that comes before it in this order.
    order = np.lexsort(values.T[::-1])
    kept: list[int] = []
    for index in order:
        rows = values[kept]
        if not len(rows) or not bool((rows <= values[index]).all(axis=1).any()):
            kept.append(int(index))
    return sorted(kept)
