"""Generated Verilog of a configuration, kept between runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

import hw
from hw.config import HardwareConfig
from hw.generate import generate

BUILD_DIR = Path("build")


def generator_hash() -> str:
    """Hash of the generators' source: a changed generator never reuses old Verilog."""
    total = hashlib.sha256()
    folder = Path(hw.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        total.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return total.hexdigest()[:12]


def circuit(
    config: HardwareConfig, build_dir: Path = BUILD_DIR,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Path]:
    """Verilog files of the accelerator, generated when they are not there yet."""
    folder = build_dir.resolve() / "verilog" / f"{config.digest()}-{generator_hash()}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Another process may want the same circuit at the same time.
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "manifest.json").is_file():
            progress(f"generating Verilog for {config.name}")
            generate(config, folder)
    return sorted((folder / "verilog").glob("*.v"))
