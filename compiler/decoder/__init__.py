"""Whole decoders: quantized layers, the golden model that runs them, evaluation."""
