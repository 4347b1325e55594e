"""Small hardware with weight ports that pairs of position lanes share."""

from __future__ import annotations

import dataclasses

from hw.presets import load_hardware

SHARED = dataclasses.replace(
    load_hardware("tiny"), name="tiny-shared", weight_ports=6, lanes=128, index_bits=4,
    sparse=False, hadamard=False, token_order=False, log2_softmax=False)
