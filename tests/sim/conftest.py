"""Circuits that the tests of a session share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def circuits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build folder: the accelerator of a configuration is generated and compiled once."""
    return tmp_path_factory.mktemp("circuits")
