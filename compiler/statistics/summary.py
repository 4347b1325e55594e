"""What statistics say: outlier channels, spectra, and how alike two texts are."""

from __future__ import annotations

from typing import Any

import numpy as np

from compiler.expression import Floats
from compiler.statistics.moments import ChannelStatistics

SIGMAS = 6.0
"""A channel with a value beyond this many standard deviations of the tensor is an outlier."""
LISTED = 8
"""Outlier channels that are named."""
TOP_SHARE = 8
"""The part of the spectrum whose share of the trace is given: one over this."""


def spectrum(hessian: Floats, tokens: int) -> dict[str, float]:
    """Trace of the mean ``x x^T`` and how it is spread over the eigenvalues.

    effective_rank: exponential of the entropy of the eigenvalues' shares (Roy and Vetterli, "The
    Effective Rank", 2007); largest_share: of the trace; top_share: of the largest eighth of them,
    the subspace that ResQ (Saxena et al., 2024) keeps at high precision.
    """
    values = np.maximum(np.linalg.eigvalsh(hessian), 0)[::-1]
    total = float(values.sum()) or 1.0
    shares = values / total
    there = shares[shares > 0]
    return {
        "trace": float(np.trace(hessian)) / tokens,
        "effective_rank": float(np.exp(-(there * np.log(there)).sum())),
        "largest_share": float(shares[0]),
        "top_share": float(shares[:-(-len(shares) // TOP_SHARE)].sum()),
    }


def input_summary(made: ChannelStatistics) -> dict[str, Any]:
    """One linear's input in numbers.

    Outlier channels are those beyond `SIGMAS` standard deviations of the whole tensor, by the
    magnitude that LLM.int8 (Dettmers et al., 2022) calls an outlier feature.
    """
    moments, peaks = made.known, made.peaks
    pooled = moments.pooled()
    sigma = float(pooled.deviation[0])
    by_channel = moments.kurtosis
    outliers = np.flatnonzero(peaks > SIGMAS * sigma)
    largest = outliers[np.argsort(-peaks[outliers], kind="stable")][:LISTED]
    return {
        "channels": len(peaks), "sigma": sigma, "peak": float(peaks.max()),
        "peak_over_sigma": float(peaks.max()) / (sigma or 1.0),
        "channel_peak_median": float(np.median(peaks)),
        "kurtosis": float(pooled.kurtosis[0]),
        "channel_kurtosis_median": float(np.median(by_channel)),
        "channel_kurtosis_max": float(by_channel.max()),
        "outlier_channels": len(outliers),
        "largest_outliers": [{"channel": int(at), "peak": float(peaks[at]),
                              "over_sigma": float(peaks[at]) / sigma} for at in largest],
        **spectrum(made.hessian, moments.count),
    }


def cosine(a: Floats, b: Floats) -> float:
    """Of the angle between two matrices in the Frobenius inner product."""
    size = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float((a * b).sum()) / (size or 1.0)


def comparison(reference: ChannelStatistics, other: ChannelStatistics) -> dict[str, float]:
    """How another text's statistics of an input differ from the reference's.

    range_ratio: median over channels of the ratio of peaks, with its 5th and 95th percentile;
    peak_ratio: of the tensors' peaks; clipped_channels: part of the channels whose peak exceeds
    the reference's by more than a quarter; trace_ratio: of the mean squares; hessian_cosine.
    """
    ratio = other.peaks / np.maximum(reference.peaks, 1e-30)
    low, middle, high = (float(part) for part in np.quantile(ratio, (0.05, 0.5, 0.95)))
    traces = [float(np.trace(made.hessian)) / made.known.count for made in (other, reference)]
    return {
        "range_ratio": middle, "range_ratio_low": low, "range_ratio_high": high,
        "peak_ratio": float(other.peaks.max() / max(float(reference.peaks.max()), 1e-30)),
        "clipped_channels": float((ratio > 1.25).mean()),
        "trace_ratio": traces[0] / (traces[1] or 1.0),
        "hessian_cosine": cosine(other.hessian, reference.hessian),
    }
