"""Images and build folders: every damage is one clear line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.build import compile_graph, load_build, write_build
from compiler.errors import ImageError
from compiler.image.disasm import disasm
from compiler.image.image import VERSION, load_image, make_image, parse_image
from compiler.lower.block import lower_linears
from hw.isa import LINE_BYTES
from hw.presets import load_hardware
from tests.compiler.random_linears import random_activations, random_linear

TINY = load_hardware("tiny")


def build_of(kind="stream"):
    rng = np.random.default_rng(0)
    linear = random_linear(rng, kind, 20, 40, TINY)
    graph = lower_linears({"y": linear}, {"y": "x"}, {"x": random_activations(rng, 9, 20)})
    return compile_graph(graph, TINY, {"model": "random"})


BUILD = build_of()


def test_sections_are_whole_lines_in_order():
    image = make_image({"program": b"abc", "constants": b"", "activations": bytes(64),
                        "outputs": bytes(65)}, "0" * 16)
    assert [(s.address, s.size) for s in image.sections.values()] == [
        (320, 64), (384, 0), (384, 64), (448, 128)]
    assert image.section("program") == b"abc" + bytes(61)
    assert parse_image(image.data, "image") == image


@settings(max_examples=60)
@given(st.integers(0, 8 * len(BUILD.image.data) - 1))
def test_every_flipped_bit_is_caught(bit):
    data = bytearray(BUILD.image.data)
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ImageError, match=r"^image\.bin: .*compile it again$|incomplete$"):
        parse_image(bytes(data), "image.bin")


def test_messages():
    data = BUILD.image.data
    with pytest.raises(ImageError, match=r"^x: not a lutrip image \(magic b'\\x00"):
        parse_image(bytes(100), "x")
    with pytest.raises(ImageError, match=r"^x: \d+ bytes, the header says \d+; the file is incomp"):
        parse_image(data[:-LINE_BYTES], "x")
    newer = data[:8] + bytes([VERSION + 1]) + data[9:]
    with pytest.raises(ImageError, match=r"^x: image version 2, this lutrip reads version 1; "):
        parse_image(newer, "x")
    at = BUILD.image.sections["constants"].address
    damaged = data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]
    with pytest.raises(ImageError, match=r"^x: the checksum of section constants is wrong; "):
        parse_image(damaged, "x")
    with pytest.raises(ValueError, match=r"^section program has \d+ bytes$"):
        BUILD.image.replace("program", b"")


def test_missing_file(tmp_path):
    with pytest.raises(ImageError, match=r"image\.bin: No such file or directory; compile it with"):
        load_image(tmp_path / "image.bin")


def test_build_folder_round_trip(tmp_path):
    path = tmp_path / "deep" / "build"
    write_build(BUILD, path)
    write_build(BUILD, path)
    assert sorted(file.name for file in path.iterdir()) == ["build.json", "image.bin"]
    again = load_build(path)
    assert again.image == BUILD.image
    assert again.metadata == json.loads(json.dumps(BUILD.metadata))
    assert again.hardware == TINY
    assert again.metadata["model"] == "random"


def test_damaged_build_folders(tmp_path):
    with pytest.raises(ImageError, match=r"build\.json: No such file or directory; compile it"):
        load_build(tmp_path)
    write_build(BUILD, tmp_path)
    (tmp_path / "image.bin").write_bytes(build_of("rowgen").image.data)
    with pytest.raises(ImageError, match=r"image\.bin is not the image that build\.json describes"):
        load_build(tmp_path)
    (tmp_path / "build.json").write_text("{")
    with pytest.raises(ImageError, match=r"build\.json: not JSON; compile it again$"):
        load_build(tmp_path)
    for text in ("{}", json.dumps({**BUILD.metadata, "format": 1})):
        (tmp_path / "build.json").write_text(text)
        with pytest.raises(ImageError, match=r"build\.json: not a build of format 2; compile it "):
            load_build(tmp_path)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ImageError, match=r"cannot write the build: "):
        write_build(BUILD, blocked)


def test_an_interrupted_write_leaves_no_whole_looking_folder(tmp_path, monkeypatch):
    write_build(BUILD, tmp_path)

    def fail(path, data):
        raise KeyboardInterrupt

    monkeypatch.setattr("compiler.build.write_atomically", fail)
    with pytest.raises(KeyboardInterrupt):
        write_build(BUILD, tmp_path)
    with pytest.raises(ImageError):
        load_build(tmp_path)


def test_disassembly_names_operations_regions_and_tokens():
    text = disasm(BUILD)
    lines = text.splitlines()
    assert lines[0].startswith("; ")
    assert f"hardware tiny ({TINY.digest()})" in lines[0]
    assert "; y.lut" in lines
    load = next(line for line in lines if " LOAD " in line)
    assert "x[0:5]" in load
    assert load.endswith("words=15 destination=0 ->search")
    assert any(" LUT " in line and " stream " in line and " first " in line and "<-search" in line
               for line in lines)
    assert lines[-1].split() == [str(len(BUILD.instruction_ops)), "END"]
    assert sum(line[0] != ";" for line in lines) == len(BUILD.instruction_ops) + 1
