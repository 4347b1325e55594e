"""lutrip: co-design simulator for quantized transformers on FPGAs."""

from lutrip.api import compile, compile_decoder, estimate, evaluate, explore, simulate

__all__ = ["compile", "compile_decoder", "estimate", "evaluate", "explore", "simulate"]
