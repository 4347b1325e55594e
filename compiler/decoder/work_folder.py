"""Where an evaluation keeps its state: folders named by everything that they depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import compiler
import hw
from compiler.decoder.weight_store import content_key
from compiler.frontends.packaged import cache_folders
from compiler.model import Model

FLOAT_SOURCES = ("activation_table.py", "expression.py", "float_layer.py", "model.py",
                 "orthogonal.py", "rotation.py")
"""Modules of the compiler that decide what the float model computes."""


def default_folder() -> Path:
    """``evaluate`` in the first cache folder that there is."""
    folders = cache_folders()
    return next((folder for folder in folders if folder.is_dir()), folders[0]) / "evaluate"


def files_digest(files: Iterable[Path]) -> str:
    """Hash of files' contents."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def package_files(module: object) -> list[Path]:
    """Sources of a package."""
    return sorted(Path(str(getattr(module, "__file__", ""))).parent.rglob("*.py"))


@cache
def golden_version() -> str:
    """Changes with every change of what quantizes and computes golden."""
    return files_digest([*package_files(hw), *package_files(compiler)])


@cache
def float_version() -> str:
    """Changes with every change of what the float model computes."""
    folder = Path(str(compiler.__file__)).parent
    return files_digest([*(folder / name for name in FLOAT_SOURCES),
                         *(folder / "frontends").rglob("*.py")])


def weights_version() -> str:
    """Changes with every change of what quantizes weights."""
    folder = Path(str(compiler.__file__)).parent
    files = [folder / "decoder" / name for name in ("weights.py", "moments.py", "heads.py")]
    return float_version() + files_digest([*files, *(folder / "quant").rglob("*.py")])


def model_digest(model: Model) -> str:
    """Hash of architecture and tensors, read one at a time."""
    digest = hashlib.sha256(repr(model.architecture).encode())
    for name in sorted(model.tensors):
        tensor = model.tensor(name)
        digest.update(f"{name}{tensor.shape}{model.tensors[name].blocks is None}".encode())
        digest.update(tensor.data)
    return digest.hexdigest()


def folder_of(root: Path, kind: str, *parts: object) -> Path:
    """Folder whose name stands for the parts' contents."""
    return root / f"{kind}-{content_key(*parts)}"
