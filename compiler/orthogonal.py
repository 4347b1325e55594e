"""Orthogonal matrices that spread a vector's energy over its elements: Hadamard and its like."""

from __future__ import annotations

import numpy as np

from compiler.expression import Floats

FACTOR_MAX = 64
"""Largest Hadamard factor of a rotation that is applied as one matrix product."""


def hadamard_matrix(length: int) -> Floats:
    """Orthonormal symmetric Sylvester matrix; ``length`` is a power of two."""
    matrix = np.ones((1, 1))
    while len(matrix) < length:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    scaled: Floats = (matrix / np.sqrt(length)).astype(np.float32)
    return scaled


def hartley_matrix(length: int) -> Floats:
    """Orthonormal symmetric matrix of any size, ``cos + sin`` of ``2 pi i j / length``."""
    angles = 2 * np.pi * np.outer(np.arange(length), np.arange(length)) / length
    matrix: Floats = ((np.cos(angles) + np.sin(angles)) / np.sqrt(length)).astype(np.float32)
    return matrix


def hadamard_blocks(x: Floats, length: int) -> Floats:
    """``x H`` in blocks of ``length`` of the last axis; its own inverse."""
    y = x.reshape(-1, length) @ hadamard_matrix(length)
    return np.ascontiguousarray(y.reshape(x.shape))


class Rotation:
    """A randomized orthogonal matrix Q [n, n] for any n: random signs, then a Kronecker product.

    Its factors are Hadamard matrices for the power of two in n, and a Hartley matrix for the odd
    rest (576 is 64 * 9), so that a row takes far fewer than n * n products.
    """

    def __init__(self, length: int, seed: int) -> None:
        signs = np.random.default_rng(seed).integers(0, 2, length)
        self.signs = np.where(signs, 1, -1).astype(np.float32)
        self.factors: list[Floats] = []
        power = length & -length
        rest = length // power
        while power > 1:
            part = min(power, FACTOR_MAX)
            self.factors.append(hadamard_matrix(part))
            power //= part
        if rest > 1:
            self.factors.append(hartley_matrix(rest))

    def __call__(self, x: Floats) -> Floats:
        """``x Q`` of the last axis, whose blocks of Q's length are rotated alike."""
        rows = x.reshape(-1, len(self.signs))
        y = rows * self.signs
        for factor in self.factors:
            # The factor's axis goes to the front; after all of them the order is the first again.
            y = (y.reshape(len(rows), -1, len(factor)) @ factor).swapaxes(1, 2)
        return np.ascontiguousarray(y, np.float32).reshape(x.shape)

    def of_outputs(self, weight: Floats) -> Floats:
        """``Q^T W``: a linear's outputs, rotated in blocks of Q's length."""
        return np.ascontiguousarray(self(np.ascontiguousarray(weight.T)).T)
