"""What each weight port brings to which position lanes of the lookup engine."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from hw.config import HardwareConfig
from hw.units.lookup_layouts import block_words


@dataclass(frozen=True)
class PortShare:
    """Records of ``lanes`` position lanes from ``first_lane`` on, as far as one port brings them.

    table: rows (tables, codebooks) come through this port. parts: words of each column block's
    indices that do, of `hw.units.lookup_layouts.block_words`.
    """

    first_lane: int
    lanes: int
    table: bool
    parts: range

    def low_words(self, blocks: int) -> int:
        """Port words of low index bits in a record."""
        return blocks * len(self.parts)

    def record_words(self, table_words: int, blocks: int, high_words: int = 0) -> int:
        """Port words of a record that come through this port."""
        return (table_words if self.table else 0) + self.low_words(blocks) + high_words


@functools.cache
def port_shares(config: HardwareConfig) -> tuple[PortShare, ...]:
    """Shares of all weight ports, in order.

    Each port brings whole records of its lanes. With ports that two lanes share, the shared one
    brings a third of the words of their column blocks, rounded down, and the rows of both where
    that leaves more to their own ports: so both kinds are about equally long.
    """
    words, per_port = block_words(config), config.positions_per_port
    taken = words // 3 if config.shared_ports else 0
    with_rows = taken > 0 and words - taken > 2 * taken
    own = [PortShare(port * per_port, per_port, not with_rows, range(words - taken))
           for port in range(config.lane_ports)]
    return *own, *(PortShare(2 * port, 2, with_rows, range(words - taken, words))
                   for port in range(config.shared_ports))
