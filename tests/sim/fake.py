"""A stand-in accelerator in Verilog and what it writes, for tests of the simulation itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from hw.presets import load_hardware
from hw.register_map import register_map

CONFIG = load_hardware("tiny")
COPY = 0x1000
IMAGE = np.random.default_rng(1).integers(0, 256, COPY, np.uint8).tobytes() + bytes(COPY)


def source(folder: Path, bursts: int = 4) -> Path:
    """The stand-in with this configuration's register map."""
    offsets = {register.name: register.offset for register in register_map(CONFIG)}
    text = (Path(__file__).parent / "fake_top.v").read_text()
    constants = {
        "CONTROL": offsets["control"], "PROGRAM": offsets["program"],
        "CONFIGURATION": offsets["configuration"],
        "STATUS": offsets["status"], "ERRORS": offsets["errors"], "CYCLES": offsets["cycles"],
        "READ_WORDS": offsets["read_words_w0"],
    }
    lines = [f"    localparam [11:0] {name} = {value};" for name, value in constants.items()]
    lines.append(f"    localparam [63:0] DIGEST = 64'h{CONFIG.digest()};")
    text = text.replace("    parameter BURSTS = 4;",
                        "\n".join([f"    parameter BURSTS = {bursts};", *lines]))
    path = folder / "lutrip_top.v"
    path.write_text(text)
    return path


def beats(bursts: int = 4, image: bytes = IMAGE, program: int = 0) -> Mapping[str, Any]:
    """What the stand-in should write."""
    count = 16 * bursts
    words = np.frombuffer(image, np.uint8)[program:program + 16 * count].reshape(count, 16)
    even, odd = np.tile([1, 0], 8), np.tile([0, 1], 8)
    index = np.arange(count)
    mask = np.where((index % 2 == 0)[:, None], even, odd).astype(np.uint8)
    low = words[:, :8].copy()
    instruction = index // 16
    return {
        "load": SimpleNamespace(address=index, data=words, mask=None, instruction=instruction),
        "quantize": SimpleNamespace(address=index, data=low, mask=mask, instruction=instruction),
        "store": SimpleNamespace(address=program + COPY + 16 * index, data=words, mask=None,
                                 instruction=instruction),
    }
