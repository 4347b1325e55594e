"""Verifies encoded programs."""

from __future__ import annotations

from compiler.image.image import Section
from hw.config import HardwareConfig


def verify_program(
    memory: bytes, config: HardwareConfig, program_address: int, outputs: Section
) -> None:
    """Raise VerifyError when a program is wrong."""
