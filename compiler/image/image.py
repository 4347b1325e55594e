"""The memory image: header, section table with checksums, and sections on 64-byte lines.

`docs/image-format.md` is the definition.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compiler.errors import ImageError
from compiler.image.layout import align, fill_lines
from hw.fixed import Ints
from hw.isa import LINE_BYTES

Bytes = bytes | memoryview

MAGIC = b"LUTRIPIM"
VERSION = 1
HEADER = struct.Struct("<8sIIQ16sII")
"""Magic, version, header bytes, image bytes, configuration digest, sections, header CRC32."""
ENTRY = struct.Struct("<32sQQI")
"""Name, address, bytes, CRC32."""
SECTIONS = ("program", "constants", "activations", "outputs")


@dataclass(frozen=True)
class Section:
    """A named part of the image: byte address and length, both whole lines."""

    address: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Image:
    """What the accelerator's memory holds before it starts, from address 0."""

    data: bytes
    digest: str
    sections: Mapping[str, Section]

    @property
    def program_address(self) -> int:
        """Byte address of the first instruction."""
        return self.sections["program"].address

    def section(self, name: str) -> bytes:
        """Bytes of a section."""
        section = self.sections[name]
        return self.data[section.address:section.address + section.size]

    def replace(self, name: str, data: bytes) -> Image:
        """The same image with other bytes of the same length in a section, checksums renewed."""
        if len(data) != self.sections[name].size:
            raise ValueError(f"section {name} has {self.sections[name].size} bytes")
        parts = {part: self.section(part) for part in self.sections}
        return make_image({**parts, name: data}, self.digest)


def header_bytes(sections: int) -> int:
    """Bytes in front of the first section."""
    return LINE_BYTES * (1 + sections)


def image_header(
    sections: Mapping[str, Section], checksums: Mapping[str, int], size: int, digest: str
) -> bytes:
    """Header and section table of an image of ``size`` bytes; checksums: CRC32 by section."""
    entries = b"".join(
        ENTRY.pack(name.encode(), section.address, section.size, checksums[name]).ljust(
            LINE_BYTES, b"\0")
        for name, section in sections.items())

    def header(checksum: int) -> bytes:
        first = HEADER.pack(MAGIC, VERSION, header_bytes(len(sections)), size, digest.encode(),
                            len(sections), checksum)
        return first.ljust(LINE_BYTES, b"\0") + entries

    return header(zlib.crc32(header(0)))


def make_image(parts: Mapping[str, bytes], digest: str) -> Image:
    """Image of named sections in order; each is filled up to whole lines."""
    size = header_bytes(len(parts))
    sections, bodies = {}, {}
    for name, part in parts.items():
        bodies[name] = fill_lines(part)
        sections[name] = Section(size, len(bodies[name]))
        size += len(bodies[name])
    checksums = {name: zlib.crc32(body) for name, body in bodies.items()}
    data = image_header(sections, checksums, size, digest) + b"".join(bodies.values())
    assert len(data) == size == align(size, LINE_BYTES)
    return Image(data=data, digest=digest, sections=sections)


def read_sections(data: Bytes, name: str) -> tuple[str, dict[str, Section]]:
    """Check header, lengths and checksums; returns the configuration digest and the sections.

    Raises ImageError in one line about ``name``.
    """
    if len(data) < LINE_BYTES or data[:len(MAGIC)] != MAGIC:
        raise ImageError(f"{name}: not a lutrip image (magic {bytes(data[:8])!r}); "
                         "compile it again")
    _, version, head, size, digest, count, checksum = HEADER.unpack_from(data)
    if version != VERSION:
        raise ImageError(f"{name}: image version {version}, this lutrip reads version {VERSION}; "
                         "compile it again")
    if len(data) != size:
        raise ImageError(f"{name}: {len(data)} bytes, the header says {size}; "
                         "the file is incomplete")
    at = HEADER.size - 4
    if head != header_bytes(count) or head > size:
        raise ImageError(f"{name}: the header is damaged; compile it again")
    if zlib.crc32(bytes(data[:at]) + bytes(4) + bytes(data[at + 4:head])) != checksum:
        raise ImageError(f"{name}: the header's checksum is wrong; compile it again")
    sections = {}
    for index in range(count):
        raw, address, length, crc = ENTRY.unpack_from(data, LINE_BYTES * (1 + index))
        section = raw.rstrip(b"\0").decode()
        if zlib.crc32(data[address:address + length]) != crc:
            raise ImageError(f"{name}: the checksum of section {section} is wrong; "
                             "compile it again")
        sections[section] = Section(address, length)
    if missing := set(SECTIONS) - set(sections):
        raise ImageError(f"{name}: section {min(missing)} is missing; compile it again")
    return digest.decode(), sections


def parse_image(data: bytes, name: str) -> Image:
    """Check header, lengths and checksums; raises ImageError in one line about ``name``."""
    digest, sections = read_sections(data, name)
    return Image(data=data, digest=digest, sections=sections)


def map_image(path: Path) -> tuple[Ints, str, dict[str, Section]]:
    """Memory of an image file, its configuration digest and sections, without reading it whole.

    The memory is uint8, its changes stay private to the process. Raises ImageError in one line.
    """
    try:
        memory = np.memmap(path, np.uint8, mode="c")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{path}: {reason}; compile it with lutrip compile") from None
    return (memory, *read_sections(memory.data, str(path)))


def load_image(path: Path) -> Image:
    """Read and check an image file; raises ImageError in one line."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}; compile it with lutrip compile") from None
    return parse_image(data, str(path))


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside ``path``, then rename: the file is there whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data)
    partial.replace(path)
