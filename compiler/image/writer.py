"""Writes an image section by section, so that none larger than memory is ever held."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from compiler.image.image import HEADER, Section, header_bytes, image_header
from compiler.image.layout import align
from hw.isa import LINE_BYTES


class ImageWriter:
    """Sections in order into ``path``, which is there only when the writer ends without error.

    ``sections`` must all be written; `begin` says where the next one starts.
    """

    def __init__(self, path: Path, digest: str, sections: int) -> None:
        self.path, self.digest, self.count = path, digest, sections
        self.partial = path.with_name(f".{path.name}.partial")
        self.sections: dict[str, Section] = {}
        self.checksums: dict[str, int] = {}
        self.size = header_bytes(sections)

    def __enter__(self) -> Self:
        self.file = self.partial.open("w+b")
        self.file.write(bytes(self.size))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            assert len(self.sections) == self.count
            self.file.seek(0)
            self.file.write(image_header(self.sections, self.checksums, self.size, self.digest))
        self.file.close()
        if kind is None:
            self.partial.replace(self.path)
        else:
            self.partial.unlink(missing_ok=True)

    def section(self, name: str, parts: Iterable[bytes]) -> Section:
        """Write a section of consecutive parts, filled up to whole lines."""
        start, checksum = self.size, 0
        for part in parts:
            self.file.write(part)
            checksum = zlib.crc32(part, checksum)
            self.size += len(part)
        rest = bytes(align(self.size, LINE_BYTES) - self.size)
        self.file.write(rest)
        self.size += len(rest)
        self.checksums[name] = zlib.crc32(rest, checksum)
        self.sections[name] = Section(start, self.size - start)
        return self.sections[name]


assert HEADER.size <= LINE_BYTES
