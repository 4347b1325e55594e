"""Circuits that the tests of a session share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def circuits(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Build folder: the accelerator of a configuration is generated and compiled once.

    Parallel workers share it; their temporary folders lie in one folder of the session.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "circuits"
    folder.mkdir(exist_ok=True)
    return folder
