"""Scale that moves between queries and keys."""

from __future__ import annotations

import dataclasses

import numpy as np

from compiler.decoder.balance import HEADROOMS, best_headroom, key_divisors, pair_peaks
from compiler.frontends.load import load_model

ARCHITECTURE = dataclasses.replace(load_model("shape:tiny").architecture, heads=2, kv_heads=1)
WIDTH = ARCHITECTURE.head_width


def test_pairs_share_a_peak() -> None:
    keys = np.ones((3, WIDTH), np.float32)
    keys[1, 2] = -8
    peaks = pair_peaks(ARCHITECTURE, keys)
    expected = np.ones(WIDTH)
    expected[[2, 2 + WIDTH // 2]] = 8
    np.testing.assert_array_equal(peaks, expected)


def test_an_outlier_of_the_keys_moves_into_the_queries() -> None:
    random = np.random.default_rng(1)
    queries = random.normal(size=(64, 2, WIDTH)).astype(np.float32)
    keys = random.normal(size=(64, 1, WIDTH)).astype(np.float32)
    keys[:, :, 3] *= 60
    queries[:, :, 3] *= 0.05
    found = key_divisors(ARCHITECTURE, queries, keys, 8)
    assert found.shape == (1, WIDTH)
    assert found[0, 3] == found[0, 3 + WIDTH // 2] > 3 * np.median(found)


def test_flat_keys_stay() -> None:
    random = np.random.default_rng(2)
    queries = random.choice([-1.0, 1.0], (32, 2, WIDTH)).astype(np.float32)
    keys = random.choice([-1.0, 1.0], (32, 1, WIDTH)).astype(np.float32)
    np.testing.assert_allclose(key_divisors(ARCHITECTURE, queries, keys, 8), 1, rtol=1e-6)


def test_headroom_of_the_least_error():
    """Few bits saturate what is rare, unless its errors count more; 8 bits leave room."""
    rng = np.random.default_rng(3)
    values = rng.standard_normal((400, 2, 8)).astype(np.float32)
    peaks, even = np.abs(values).max(axis=(0, 2)), np.ones((2, 8))
    chosen = best_headroom(values, peaks, even, 4)
    errors = {}
    for headroom in HEADROOMS[4]:
        steps = (peaks * headroom / 7)[:, None]
        errors[headroom] = np.square(np.clip(np.round(values / steps), -7, 7) * steps - values)
    assert chosen == min(errors, key=lambda headroom: errors[headroom].sum()) < 0.9
    # An element that reaches the peak all the time, and is all that counts.
    values[:, :, 0] = np.where(rng.random((400, 2)) < 0.5, 1, -1) * peaks
    assert best_headroom(values, peaks, np.eye(8)[[0, 0]], 4) == 1.0
    assert best_headroom(values, peaks, even, 8) == 1.25
