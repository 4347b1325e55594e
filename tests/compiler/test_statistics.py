"""Calibration statistics: streamed sums against numpy, and cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.errors import CompileError
from compiler.float_layer import attention_weights, embed, layer_weights, run_layer
from compiler.frontends.load import load_model
from compiler.statistics.collect import INPUTS, collect, windows_of
from compiler.statistics.massive import FirstTokenMass, MassiveActivations
from compiler.statistics.moments import ChannelStatistics, Moments
from compiler.statistics.summary import comparison, cosine, input_summary, spectrum

MODEL = load_model("shape:tiny").in_memory()
TEXT = np.random.default_rng(5).integers(0, 256, 40)


def test_moments_by_hand():
    """0, 0, 0, 4: mean 1, squares 1 + 1 + 1 + 9, cubes -3 + 27, fourth powers 3 + 81."""
    made = Moments.of(np.array([[0], [0], [0], [4]], np.float32))
    assert [float(part[0]) for part in (made.mean, made.second, made.third, made.fourth)] == [
        1, 12, 24, 84]
    assert made.deviation[0] == pytest.approx(np.sqrt(3))
    assert made.kurtosis[0] == pytest.approx(4 * 84 / 144)


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 9), min_size=1, max_size=5),
       st.sampled_from([1.0, 1e3]), st.sampled_from([0.0, 50.0]))
def test_windows_add_up(seed, lengths, scale, offset):
    generator = np.random.default_rng(seed)
    x = (generator.standard_normal((sum(lengths), 6)) * scale + offset).astype(np.float32)
    made = ChannelStatistics(6)
    for part in np.split(x, np.cumsum(lengths)[:-1]):
        made.add(part)
    exact = x.astype(np.float64)
    gap = exact - exact.mean(axis=0)
    moments = made.known
    assert moments.count == len(x)
    assert np.allclose(moments.mean, exact.mean(axis=0))
    size = np.abs(x).max() + 1
    for power, found in ((2, moments.second), (3, moments.third), (4, moments.fourth)):
        assert np.allclose(found, (gap**power).sum(axis=0), rtol=1e-6, atol=1e-9 * size**power)
    gap = exact - exact.mean()
    pooled = moments.pooled()
    assert pooled.count == exact.size
    for power, found in ((2, pooled.second), (3, pooled.third), (4, pooled.fourth)):
        assert np.allclose(found, (gap**power).sum(), rtol=1e-6, atol=1e-9 * size**power)
    assert np.array_equal(made.peaks, np.abs(x).max(axis=0))
    assert np.allclose(made.hessian, exact.T @ exact, rtol=1e-3, atol=1e-3 * size**2)


def test_spectrum_by_hand():
    """Eigenvalues 6, 2, 0, 0 of the sum over 4 tokens."""
    made = spectrum(np.diag([2.0, 0, 6, 0]), 4)
    assert made["trace"] == 2
    assert made["largest_share"] == pytest.approx(0.75)
    assert made["top_share"] == pytest.approx(0.75)
    assert made["effective_rank"] == pytest.approx(np.exp(-0.75 * np.log(0.75)
                                                          - 0.25 * np.log(0.25)))
    flat = spectrum(np.eye(16), 1)
    assert flat["effective_rank"] == pytest.approx(16)
    assert flat["top_share"] == pytest.approx(2 / 16)


def test_outlier_channels_by_hand():
    """One value of 100 among 50 * 4 zeros: sigma 7.05, so channel 2 lies at 14 sigma."""
    x = np.zeros((50, 4), np.float32)
    x[7, 2] = -100
    made = ChannelStatistics(4)
    made.add(x)
    summary = input_summary(made)
    sigma = np.sqrt(100**2 / 200 - (100 / 200)**2)
    assert summary["sigma"] == pytest.approx(sigma)
    assert summary["outlier_channels"] == 1
    assert summary["largest_outliers"] == [
        {"channel": 2, "peak": 100, "over_sigma": pytest.approx(100 / sigma)}]
    assert (made.lowest[2], made.highest[2]) == (-100, 0)
    assert summary["channel_peak_median"] == 0
    assert summary["channel_kurtosis_max"] == pytest.approx(
        50 * (49 * 2.0**4 + 98.0**4) / (49 * 2.0**2 + 98.0**2)**2)


def test_comparison_by_hand():
    first, second = ChannelStatistics(2), ChannelStatistics(2)
    first.add(np.array([[1, 0], [0, 2]], np.float32))
    second.add(np.array([[3, 0]], np.float32))
    made = comparison(first, second)
    assert made["range_ratio"] == pytest.approx((3 + 0) / 2)
    assert made["peak_ratio"] == 1.5
    assert made["clipped_channels"] == 0.5
    assert made["trace_ratio"] == pytest.approx(9 / 2.5)
    assert made["hessian_cosine"] == pytest.approx(1 / np.sqrt(17))
    assert cosine(np.zeros((2, 2)), np.eye(2)) == 0
    same = comparison(first, first)
    assert {same[key] for key in ("range_ratio", "peak_ratio", "trace_ratio")} == {1}
    assert same["hessian_cosine"] == pytest.approx(1)


def test_massive_activations_by_hand():
    state = np.full((10, 8), 0.1, np.float32)
    state[0, 3], state[4, 3], state[9, 5], state[2, 2] = -2000, 400, 99, 120
    found = MassiveActivations()
    found.add(state, np.arange(20, 30))
    found.add(np.full((3, 8), 0.1, np.float32), np.arange(3))
    made = found.summary()
    assert (made["peak"], made["massive"], made["windows"]) == (2000, 3, 2)
    assert made["median"] == pytest.approx(0.1)
    assert made["channels"] == {3: 2, 2: 1}
    assert made["positions"] == {0: 1, 2: 1, 4: 1}
    assert made["largest"][1] == {"value": 400, "channel": 3, "position": 4, "token": 24,
                                  "window": 0}
    assert made["peak_by_position"][:5] == [2000, pytest.approx(0.1), 120, pytest.approx(0.1), 400]
    assert made["peak_of_later_positions"] == 99


def test_a_large_median_hides_nothing_but_noise():
    """Above 100, but not 1000 times the median: not massive."""
    found = MassiveActivations()
    state = np.ones((4, 4), np.float32)
    state[1, 1] = 999
    found.add(state, np.arange(4))
    assert found.summary()["massive"] == 0


def test_first_token_mass_by_hand():
    """Equal scores: token t pays 1 / (t + 1) to each of the tokens that it sees."""
    found = FirstTokenMass(MODEL.architecture.heads)
    q = np.zeros((4, 4, 16), np.float32)
    found.add(MODEL.architecture, q, np.zeros((4, 2, 16), np.float32))
    assert found.by_head() == pytest.approx([(1 / 2 + 1 / 3 + 1 / 4) / 3] * 4)


def test_first_token_mass_of_each_head():
    weights = layer_weights(MODEL, 0)
    _, made = run_layer(MODEL.architecture, weights, embed(MODEL, TEXT))
    found = FirstTokenMass(4)
    found.add(MODEL.architecture, made["q_rotated"], made["k_rotated"])
    mass, _ = attention_weights(MODEL.architecture, made["q_rotated"], made["k_rotated"])
    assert found.by_head()[2] == pytest.approx(mass[1, 0, 1:, 0].mean())


def test_collected_layer_by_layer():
    steps: list[int] = []
    windows = windows_of(MODEL, [int(token) for token in TEXT], 16)
    texts = {"a": windows, "b": windows[:1], "c": windows}
    layers, arrays = collect(MODEL, texts, lambda: steps.append(1))
    assert len(steps) == 2 * (3 + 1 + 3)
    assert [len(window) for window in windows] == [16, 16, 8]
    states = [embed(MODEL, window) for window in windows]
    for index, layer in enumerate(layers):
        done = [run_layer(MODEL.architecture, layer_weights(MODEL, index), x) for x in states]
        states = [state for state, _ in done]
        x = np.concatenate([made["mlp_hidden"] for _, made in done])
        assert np.allclose(arrays[f"layers.{index}.mlp_hidden.lowest"], x.min(axis=0))
        assert np.allclose(arrays[f"layers.{index}.mlp_hidden.mean_square"],
                           (x**2).mean(axis=0), rtol=1e-4)
        assert layer["inputs"]["mlp_hidden"]["sigma"] == pytest.approx(x.std(), rel=1e-4)
        assert layer["massive"]["peak"] == pytest.approx(
            max(np.abs(state).max() for state in states))
        assert set(layer["inputs"]) == set(INPUTS)
        assert layer["texts"]["c"]["inputs"]["mlp_input"]["hessian_cosine"] == pytest.approx(1)
        assert layer["texts"]["b"]["inputs"]["mlp_input"]["range_ratio"] < 1
        assert len(layer["first_token_mass"]) == 4


def test_an_empty_text():
    with pytest.raises(CompileError, match="the calibration text is empty"):
        windows_of(MODEL, [], 16)
