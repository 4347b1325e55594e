"""What of a hardware changes the loss of a scheme: bits of computed rows, of keys and of values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from compiler.quant.scheme import RowgenScheme, SchemeMap
from hw.config import EXACT_ROW_BITS, HardwareConfig

EXACT_CACHE_BITS = 8
"""Of keys and values in the cache of hardware that schemes are compared on."""


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Bits of the entries of computed rows, and of keys and values in the key-value cache."""

    row_bits: int = EXACT_ROW_BITS
    key_bits: int = EXACT_CACHE_BITS
    value_bits: int = EXACT_CACHE_BITS

    @classmethod
    def of(cls, scheme: SchemeMap, hardware: HardwareConfig) -> Self:
        """Of a hardware, as far as it changes a scheme's loss."""
        return cls(row_bits=hardware.row_bits, key_bits=hardware.key_bits,
                   value_bits=hardware.value_bits).counted(scheme)

    def counted(self, scheme: SchemeMap) -> Self:
        """With exact rows where a scheme has no computed ones."""
        parts = (scheme.default, *scheme.layers.values())
        if any(isinstance(part, RowgenScheme) for part in parts):
            return self
        return dataclasses.replace(self, row_bits=EXACT_ROW_BITS)

    @property
    def cache(self) -> tuple[int, int]:
        """Bits of keys, bits of values."""
        return self.key_bits, self.value_bits

    @property
    def text(self) -> str:
        """What is not exact, for people: rows of 12 bits, keys of 4 bits."""
        named = [("rows", self.row_bits, EXACT_ROW_BITS)]
        if self.key_bits == self.value_bits:
            named.append(("keys and values", self.key_bits, EXACT_CACHE_BITS))
        else:
            named += [("keys", self.key_bits, EXACT_CACHE_BITS),
                      ("values", self.value_bits, EXACT_CACHE_BITS)]
        return ", ".join(f"{what} of {bits} bits" for what, bits, exact in named if bits < exact)


EXACT = Precision()
NAMES = tuple(field.name for field in dataclasses.fields(Precision))


def with_precision(scheme: str, precision: Precision) -> str:
    """A scheme's name, and the precision of its hardware where that is not exact."""
    return ", ".join(part for part in (scheme, precision.text) if part)


def evaluated(row: Mapping[str, Any]) -> str:
    """`with_precision` of a row of study.json's evaluations."""
    return with_precision(row["scheme"], Precision(**{name: row[name] for name in NAMES}))
