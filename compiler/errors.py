"""Errors of the compiler that a user can cause, reported in one line without a traceback."""

from __future__ import annotations

from hw.errors import LutripError


class FrontendError(LutripError):
    """A checkpoint, tokenizer or text cannot be read, or is of a kind that is not supported."""


class CompileError(LutripError):
    """A layer cannot be quantized or lowered to the hardware."""


class VerifyError(LutripError):
    """A program or an intermediate representation breaks a rule."""


class ImageError(LutripError):
    """A build folder or memory image is damaged, of another version, or missing."""
