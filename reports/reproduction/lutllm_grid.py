"""The performance model in the public repository LUT-FPGA/LUT-LLM (model.py), written anew.

It describes other designs than the one that was built, with vectors of 2 or 4 and 64 or 128
centroids. Its quirks are kept: ports carry three quarters of their width, gigabytes are 2**30,
memory beyond the device is loaded in whole passes. Resources other than memory are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from compiler.model import Architecture

CLOCK_MHZ, PORT_BITS, PORTS, DEVICE_GIB = 250, 512, 32, 820
PORT_SHARE = 0.75
ATTENTION_UNITS = 4096
NONLINEAR_LANES = 32
WEIGHTS = 2.03e9
"""Parameters that the script counts for every model."""
MEMORY_BYTES = 7334 * 2304 + 1878 * 36864 + 2574208 // 2 * 8
"""On-chip memory of v80.json: block RAM, UltraRAM and half of the look-up tables."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One row of the script's parameter files; weight_vq: weights are vector-quantized too."""

    vector: int
    centroids: int
    act_bits: int
    table_bits: int
    kept: float
    reload: int
    weight_vq: bool = False


SETTINGS = {
    **{str(number): Setting(vector=vector, centroids=centroids, act_bits=act, table_bits=table,
                            kept=kept, reload=reload)
       for number, (vector, centroids, act, table, kept, reload) in enumerate((
           (2, 64, 32, 32, 1, 28), (2, 64, 8, 32, 1, 16), (2, 64, 8, 8, 1, 14),
           (2, 64, 8, 32, 0.25, 16), (4, 128, 32, 32, 1, 28), (4, 128, 8, 32, 1, 32),
           (4, 128, 8, 8, 1, 28), (4, 128, 8, 32, 0.25, 32), (4, 64, 32, 32, 1, 28),
           (4, 64, 8, 32, 1, 16), (4, 64, 8, 8, 1, 14), (4, 64, 8, 32, 0.25, 16)), 1)},
    "w_vq": Setting(vector=4, centroids=64, act_bits=8, table_bits=8, kept=1, reload=14,
                    weight_vq=True),
}


def _linear(
    setting: Setting, inputs: int, outputs: int, tokens: int, memory: float
) -> tuple[float, float]:
    """Cycles and bytes of memory of a linear layer that may use ``memory`` bytes."""
    width = PORT_BITS * PORTS * PORT_SHARE / 8 * (1.5 if setting.weight_vq else 1)
    unit = 1 + math.log2(setting.vector)
    passes = inputs * (setting.act_bits // 8) / width
    search = (unit * math.log2(setting.centroids) + tokens) * passes * setting.reload
    books = setting.centroids * (setting.act_bits // 8) * setting.vector * (
        inputs // setting.vector)
    tables = setting.centroids * setting.table_bits // 8 * (inputs // setting.vector) * outputs
    lookups = passes * tokens
    room = memory - books
    if tables > room:
        if tables / room > setting.reload:
            lookups *= tables / room // setting.reload
        tables = int(room)
    return (max(search, lookups) + unit * setting.centroids,
            books + tables / setting.reload * 7)


def cycles(setting: Setting, model: Architecture, tokens: int, decode: bool) -> float:
    """Cycles of the whole model; tokens: of the prompt, or keys that a decode pass sees."""
    rows = 1 if decode else tokens
    share = model.heads // model.kv_heads + 2

    def linear(inputs: int, outputs: int, part: float) -> float:
        return _linear(setting, inputs, outputs, rows, MEMORY_BYTES / part)[0]

    rope = rows * model.head_width * (model.heads + model.kv_heads) / NONLINEAR_LANES
    norm = rows * model.width * 2 / (2 * NONLINEAR_LANES)
    gate = rows * model.ffn_width / NONLINEAR_LANES
    scores = tokens * rows * model.head_width * (model.heads // model.kv_heads) / ATTENTION_UNITS
    heads = model.kv_heads * (max(linear(model.width, model.head_width, share), rope) + scores)
    output = max(linear(model.width, model.width, 1), norm)
    hidden = max(linear(model.width, model.ffn_width, 2), gate)
    down = max(linear(model.ffn_width, model.width, 1), norm)
    return model.layers * (heads + output + hidden + down)


def offchip_milliseconds(setting: Setting, model: Architecture) -> float:
    """Time to load tables, or codes and one byte for each weight; a constant of the model.

    What does not fit on the chip is added by the script only beyond 1,024 tokens and is left out.
    """
    books = model.layers * (model.width * 4 + model.ffn_width) * setting.centroids * (
        setting.act_bits // 8)
    if setting.weight_vq:
        codes = math.log2(setting.centroids) * WEIGHTS / setting.vector // 8
        loaded = codes + 2 * books + WEIGHTS
    else:
        tables = setting.centroids // setting.vector * WEIGHTS * setting.table_bits * setting.kept
        loaded = tables // 8 + books // setting.vector
    return loaded / DEVICE_GIB / 2**30 * 1e3


def milliseconds(setting: Setting, model: Architecture, tokens: int, decode: bool) -> float:
    """Latency: on-chip and off-chip work overlap."""
    return max(cycles(setting, model, tokens, decode) / CLOCK_MHZ / 1e3,
               offchip_milliseconds(setting, model))
