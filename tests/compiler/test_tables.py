"""Integer tables against cases worked by hand."""

from __future__ import annotations

import numpy as np

from compiler.expression import Floats
from compiler.quant.tables import TableFit, Tables
from compiler.quant.weights import VectorWeights
from hw.fixed import Ints


def weights_of(indices: Ints, group_columns: int, weight_codes: int = 16) -> VectorWeights:
    positions, columns = indices.shape
    groups = -(-columns // group_columns)
    return VectorWeights(
        codebooks=np.zeros((positions, groups, weight_codes, 2), np.int8), indices=indices,
        scales=np.ones(columns, np.float32), group_columns=group_columns, inputs=2 * positions)


def sums_of(products: Floats, weights: VectorWeights, codes: Ints) -> Floats:
    """The sums that tables without rounding give."""
    groups = np.arange(len(weights.scales)) // weights.group_columns
    places = np.arange(len(products))[:, None, None]
    y: Floats = products[places, codes.T[:, :, None], groups,
                         weights.indices[:, None]].sum(axis=0)
    return y


def made_by(tables: Tables, weights: VectorWeights, codes: Ints) -> Floats:
    sums = sums_of(tables.entries.astype(np.float64), weights, codes)
    return (sums + tables.zeros) * tables.steps * weights.scales


def random_fit(seed: int, bits: int = 8, spread: float = 0) -> tuple[TableFit, VectorWeights]:
    random = np.random.default_rng(seed)
    products = random.normal(size=(6, 4, 2, 16)).astype(np.float32)
    products += spread * random.normal(size=(6, 1, 1, 1)).astype(np.float32)
    weights = weights_of(random.integers(0, 16, (6, 40)).astype(np.uint8), 32)
    codes = random.integers(0, 4, (60, 6)).astype(np.uint8)
    return TableFit(products, weights, bits, codes, sums_of(products, weights, codes)), weights


def test_every_position_has_a_middle_of_its_own() -> None:
    """Positions whose products lie far from each other keep the whole range of a table."""
    fit, weights = random_fit(4, spread=80)
    tables = fit.rounded(1.0)
    ranges = fit.products.max(axis=(1, 3)) - fit.products.min(axis=(1, 3))
    error = np.abs(made_by(tables, weights, fit.codes) - fit.y).max()
    assert error < 6.5 * ranges.max() / 255 / 2 + ranges.max() / 255


def test_the_middle_of_what_is_used() -> None:
    """The range of a position lies about the products that the text uses, not about all of them.

    2 bits and a quarter of the range of 12: entries 1 apart around 1.5, so that 0, 1, 2 and 3 are
    exact and 12 becomes 3.
    """
    products = np.array([[[[0.0, 1.0, 2.0, 3.0, 12.0]]]], np.float32)
    weights = weights_of(np.array([[0, 1, 2, 3]], np.uint8), 4, 5)
    codes = np.zeros((1, 1), np.uint8)
    fit = TableFit(products, weights, 2, codes, np.array([[0.0, 1.0, 2.0, 3.0]]))
    tables = fit.rounded(0.25)
    np.testing.assert_array_equal(tables.entries[0, 0, 0], [0, 1, 2, 3, 3])
    np.testing.assert_allclose(made_by(tables, weights, codes), fit.y, atol=1e-6)


def test_a_massive_activation_leaves_the_others_alone() -> None:
    """A code of one token whose products are ten thousand times as large."""
    fit, weights = random_fit(9)
    products, codes = fit.products.copy(), fit.codes.copy()
    codes[codes == 3] = 0
    products[2, 3] *= 1e4
    codes[0, 2] = 3
    y = sums_of(products, weights, codes)
    massive = TableFit(products, weights, 8, codes, y)
    made = made_by(massive.best(), weights, codes)
    errors = np.sqrt(np.square(made - y).sum(axis=1) / np.square(y).sum(axis=1))
    assert errors[1:].max() < 0.05
    wide = made_by(massive.rounded(1.0), weights, codes)
    assert np.sqrt(np.square(wide - y).sum(axis=1) / np.square(y).sum(axis=1))[1:].min() > 1


def test_columns_without_weights() -> None:
    """Columns that only fill up a block have the scale 0 and do not disturb the others."""
    fit, weights = random_fit(11)
    weights.scales[35:] = 0
    again = TableFit(fit.products, weights, 8, fit.codes, fit.y * (weights.scales > 0))
    made = made_by(again.best(), weights, fit.codes)
    assert np.isfinite(made).all()
    assert np.abs(made - again.y).max() < 0.1
