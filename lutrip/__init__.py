"""lutrip: co-design simulator for quantized transformers on FPGAs."""

from lutrip.api import compile, simulate

__all__ = ["compile", "simulate"]
