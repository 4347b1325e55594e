"""lutrip: co-design simulator for quantized transformers on FPGAs."""

from lutrip.api import compile, compile_decoder, evaluate, simulate

__all__ = ["compile", "compile_decoder", "evaluate", "simulate"]
