"""lutrip: co-design simulator for quantized transformers on FPGAs."""

from lutrip.api import compile, evaluate, simulate

__all__ = ["compile", "evaluate", "simulate"]
