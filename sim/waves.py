"""What Verilator's FST writer needs besides a compiler: two headers and their libraries.

The writer includes lz4 and zlib, whose development packages a small system lacks. These headers
have just the functions that it calls; the blocks that they make follow the LZ4 block format, and
zlib's are left uncompressed, which the FST format allows.
"""

from __future__ import annotations

from pathlib import Path

LZ4_HEADER = """\
#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

inline int LZ4_compressBound(int size) { return size + size / 255 + 16; }

// Greedy matches of four bytes or more within 64 KiB.
inline int LZ4_compress_default(const char* source, char* target, int size, int) {
    const uint8_t* const in = reinterpret_cast<const uint8_t*>(source);
    uint8_t* out = reinterpret_cast<uint8_t*>(target);
    std::vector<int> seen(1 << 14, -1);
    const auto extend = [&](int length) {
        for (; length >= 255; length -= 255) *out++ = 255;
        *out++ = static_cast<uint8_t>(length);
    };
    const auto emit = [&](int first, int literals, int match, int distance) {
        const int more = match ? match - 4 : 0;
        const int high = literals < 15 ? literals : 15, low = more < 15 ? more : 15;
        *out++ = static_cast<uint8_t>(high << 4 | low);
        if (literals >= 15) extend(literals - 15);
        std::memcpy(out, in + first, literals);
        out += literals;
        if (!match) return;
        *out++ = static_cast<uint8_t>(distance);
        *out++ = static_cast<uint8_t>(distance >> 8);
        if (more >= 15) extend(more - 15);
    };
    int anchor = 0;
    for (int position = 0; position < size - 12;) {
        uint32_t word;
        std::memcpy(&word, in + position, 4);
        int& slot = seen[word * 2654435761u >> 18];
        const int candidate = slot;
        slot = position;
        if (candidate < 0 || position - candidate > 65535
            || std::memcmp(in + candidate, in + position, 4)) {
            ++position;
            continue;
        }
        int match = 4;
        while (position + match < size - 5 && in[candidate + match] == in[position + match])
            ++match;
        emit(anchor, position - anchor, match, position - candidate);
        position += match;
        anchor = position;
    }
    emit(anchor, size - anchor, 0, 0);
    return static_cast<int>(out - reinterpret_cast<uint8_t*>(target));
}
"""

ZLIB_HEADER = """\
#pragma once
typedef unsigned char Bytef;
typedef unsigned long uLong;
typedef unsigned long uLongf;
enum { Z_OK = 0 };

inline uLong compressBound(uLong size) { return size + 1; }

// One byte longer than the source, so that the writer keeps the source.
inline int compress2(Bytef*, uLongf* length, const Bytef*, uLong size, int) {
    *length = size + 1;
    return Z_OK;
}
"""

EMPTY_ARCHIVE = b"!<arch>\n"


def fst_flags(folder: Path) -> list[str]:
    """Write the support files into ``folder`` and return Verilator's arguments for FST waves."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lz4.h").write_text(LZ4_HEADER)
    (folder / "zlib.h").write_text(ZLIB_HEADER)
    # Verilator links with both libraries whatever it calls.
    for name in ("libz.a", "liblz4.a"):
        (folder / name).write_bytes(EMPTY_ARCHIVE)
    return ["--trace-fst", "-CFLAGS", f"-I{folder}", "-LDFLAGS", f"-L{folder}"]
