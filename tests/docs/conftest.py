"""Circuits that the documentation's commands share with the tests of `sim`."""

from tests.sim.conftest import circuits

__all__ = ["circuits"]
