"""The cycle model beside RTL, for the passes of a decoder's build."""

from __future__ import annotations

from pathlib import Path

from compiler.build import IMAGE_FILE
from compiler.image.program import decode_program
from hw.config import HardwareConfig
from sim.circuit import circuit
from sim.decoder_build import open_build
from sim.estimate.program import Circuit
from sim.estimate.rows import pack_rows
from sim.records import Job, MemoryModel
from sim.runner import simulate_passes


def cycle_errors(
    path: Path, hardware: HardwareConfig, circuits: Path, folder: Path
) -> list[float]:
    """Modelled over simulated cycles of every pass, less 1."""
    build, memory, errors = open_build(path), MemoryModel(), []
    jobs = [Job(program_address=item.program_address, expected={}) for item in build.passes]
    results = simulate_passes(circuit(hardware, circuits), hardware, path / IMAGE_FILE, jobs,
                              folder, memory=memory, build_dir=circuits / "sim")
    for item, result in zip(build.passes, results, strict=True):
        rows = pack_rows(decode_program(build.memory[item.program_address:]), hardware)
        timeline = Circuit.of(hardware, memory).run(
            rows, item.program_address // hardware.port_bytes)
        errors.append(timeline.cycles / result.cycles - 1)
    return errors
