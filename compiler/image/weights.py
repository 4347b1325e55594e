"""How the multiplier array's weights, scales and minima lie in the memory image.

`docs/architecture.md` ("SIMD weights") is the definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from compiler.image.layout import (
    Buffer,
    align,
    pack_bits,
    pad_axis,
    signed4,
    split_regions,
    unpack_bits,
)
from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.isa import LINE_BYTES, SimdMode


@dataclass(frozen=True, kw_only=True)
class WeightFormat:
    """Sizes of the weight regions of one SIMD instruction.

    blocks: column blocks; groups: weight groups of ``group_rounds`` rounds; weight_bits: 4 or 8.
    """

    config: HardwareConfig
    blocks: int
    groups: int
    group_rounds: int
    weight_bits: int
    has_min: bool

    @classmethod
    def of(cls, fields: Mapping[str, int], config: HardwareConfig) -> WeightFormat:
        """Format that the fields of a SIMD instruction describe."""
        return cls(
            config=config, blocks=fields["blocks"],
            groups=fields["rounds"] // max(1, fields["group_rounds"]),
            group_rounds=fields["group_rounds"],
            weight_bits=8 if fields["mode"] in (SimdMode.W8A8, SimdMode.W8L4) else 4,
            has_min=bool(fields["has_min"]),
        )

    @property
    def scale_bytes(self) -> int:
        """Bytes of one port's scales (or minima) of a group."""
        return self.config.port_columns * 2

    @property
    def group_bytes(self) -> int:
        """Bytes of one port's part of a group."""
        inputs = self.group_rounds * self.config.word_elements
        weights = inputs * self.config.port_columns * self.weight_bits // 8
        return self.scale_bytes * (1 + self.has_min) + weights

    @property
    def port_stride(self) -> int:
        """Lines from one port's region to the next."""
        return align(self.blocks * self.groups * self.group_bytes, LINE_BYTES) // LINE_BYTES


def pack_weights(form: WeightFormat, weights: Ints, scales: Ints, minima: Ints | None) -> bytes:
    """Regions of all lane ports, one after the other.

    weights: int8 [M, groups * group inputs]; scales, minima: int16 [groups, M]; M is filled up.
    """
    config, blocks, groups = form.config, form.blocks, form.groups
    ports, port_columns, depth = config.lane_ports, config.port_columns, config.simd_depth
    chunks = form.group_rounds * config.chunks_per_word
    columns = blocks * config.lanes
    parts = []
    for values in (scales, minima):
        if values is None:
            continue
        full = pad_axis(values, 1, columns).astype("<i2")
        # [groups, blocks, ports, columns] -> [ports, blocks, groups, columns]
        shaped = full.reshape(groups, blocks, ports, port_columns).transpose(2, 1, 0, 3)
        parts.append(np.ascontiguousarray(shaped).view(np.uint8))
    full = pad_axis(weights, 0, columns).view(np.uint8)
    shaped = full.reshape(blocks, ports, port_columns, groups, chunks, depth)
    shaped = shaped.transpose(1, 0, 3, 4, 2, 5).reshape(ports, blocks, groups, -1)
    if form.weight_bits == 4:
        shaped = shaped & 15
    parts.append(pack_bits(shaped, form.weight_bits))
    regions = np.concatenate(parts, axis=3).reshape(ports, -1)
    return pad_axis(regions, 1, form.port_stride * LINE_BYTES).tobytes()


def unpack_weights(
    form: WeightFormat, data: Buffer, port_stride: int
) -> tuple[Ints, Ints, Ints]:
    """Weights, scales and minima (zeros without) as `pack_weights` takes them, filled up.

    port_stride: lines from one port's region to the next; the last one may end early.
    """
    config, blocks, groups = form.config, form.blocks, form.groups
    ports, port_columns, depth = config.lane_ports, config.port_columns, config.simd_depth
    chunks = form.group_rounds * config.chunks_per_word
    rows = split_regions(data, ports, port_stride, blocks * groups * form.group_bytes)
    rows = rows.reshape(ports, blocks, groups, form.group_bytes)

    def per_column(first: int) -> Ints:
        part = np.ascontiguousarray(rows[..., first:first + form.scale_bytes]).view("<i2")
        return part.transpose(2, 1, 0, 3).reshape(groups, -1)

    scales = per_column(0)
    minima = per_column(form.scale_bytes) if form.has_min else np.zeros_like(scales)
    packed = np.ascontiguousarray(rows[..., form.scale_bytes * (1 + form.has_min):])
    values = unpack_bits(packed, form.weight_bits)
    signed = signed4(values) if form.weight_bits == 4 else values.view(np.int8)
    shaped = signed.reshape(ports, blocks, groups, chunks, port_columns, depth)
    weights = shaped.transpose(1, 0, 4, 2, 3, 5).reshape(blocks * config.lanes, -1)
    return np.ascontiguousarray(weights), scales, minima
