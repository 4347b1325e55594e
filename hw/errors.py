"""Errors a user can cause, reported in one line without a traceback. Bugs are asserts."""


class LutripError(Exception):
    """The input is wrong (exit status 2)."""


class ConfigError(LutripError):
    """A parameter is outside what the hardware can be built for."""


class ToolError(LutripError):
    """A tool is missing or failed (exit status 3)."""
