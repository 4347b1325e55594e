"""Pyramid vector quantization: the points by hand, whole layers against nearest points."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.quant.hessian import output_error
from compiler.quant.pyramid import best_step, pyramid, pyramid_points


def test_points_of_two_by_hand():
    """13 points with an L1 norm of at most 2; three of the eight (2, 1) fill up, far apart."""
    points = [tuple(point) for point in pyramid_points(2, 16).tolist()]
    assert points[0] == (0, 0)
    assert set(points[1:5]) == {(1, 0), (-1, 0), (0, 1), (0, -1)}
    assert set(points[5:13]) == {(2, 0), (-2, 0), (0, 2), (0, -2),
                                 (1, 1), (1, -1), (-1, 1), (-1, -1)}
    assert points[13:] == [(-2, -1), (2, 1), (-1, 2)]
    assert len(set(points)) == 16


def test_points_of_one_and_four_by_hand():
    assert sorted(pyramid_points(1, 8).reshape(-1).tolist()) == [-4, -3, -2, -1, 0, 1, 2, 3]
    points = pyramid_points(4, 16)
    assert (np.abs(points).sum(axis=1) == [0] + [1] * 8 + [2] * 7).all()
    # Of the shell of 2, (1, 1, 0, 0) is nearer to 0 than (2, 0, 0, 0).
    assert np.abs(points).max() == 1


@pytest.mark.parametrize(("length", "codes"), [(1, 256), (2, 64), (2, 256), (4, 256)])
def test_points_are_different(length, codes):
    points = pyramid_points(length, codes)
    assert points.shape == (codes, length)
    # Only 255 numbers have a magnitude of at most 127.
    assert len(np.unique(points, axis=0)) == min(codes, 255 if length == 1 else codes)


def test_step_of_points_themselves():
    """Vectors that are points at a distance find about that distance."""
    points = pyramid_points(2, 16)
    targets = (points * 0.5)[np.random.default_rng(0).integers(0, 16, (8, 40))]
    assert best_step(targets.reshape(8, -1).astype(np.float32), points) == pytest.approx(
        0.5, rel=0.06)


@pytest.mark.parametrize(("length", "codes", "inputs"), [(1, 16, 21), (2, 16, 50), (4, 64, 50)])
def test_layer(length, codes, inputs):
    """Every position has the points; feedback beats the nearest points at the same scales."""
    rng = np.random.default_rng(inputs)
    weight = rng.normal(size=(24, inputs)).astype(np.float32)
    weight[5] = 0
    x = rng.normal(size=(400, inputs // 3)) @ rng.normal(size=(inputs // 3, inputs))
    x += 0.2 * rng.normal(size=x.shape)
    hessians = (x.T @ x).astype(np.float32)[None]
    made = pyramid(weight, hessians, length, codes, 16)
    assert made.codebooks.shape == (-(-inputs // length), 2, codes, length)
    points = pyramid_points(length, codes)
    assert (made.codebooks == points).all()
    assert not made.dense()[5].any()
    padded = np.pad(weight, ((0, 0), (0, -inputs % length))).reshape(24, -1, length)
    scaled = padded / np.where(made.scales > 0, made.scales, 1)[:, None, None]
    gaps = np.square(scaled[:, :, None] - points).sum(axis=3)
    nearest = (points[gaps.argmin(axis=2)] * made.scales[:, None, None]).reshape(24, -1)
    assert output_error(weight, made.dense(), hessians) < 0.6 * output_error(
        weight, nearest[:, :inputs].astype(np.float32), hessians)
