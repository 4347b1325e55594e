"""The Python interface: what each command does, as a function."""

from __future__ import annotations

from collections.abc import Callable, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw.errors import LutripError

if TYPE_CHECKING:
    from compiler.build import Build
    from sim.records import MemoryModel


def compile(
    model: str, scheme: str, hardware: str = "sim", *, layers: tuple[int, int] = (0, 1),
    parts: Set[str] = frozenset(("qkvo", "mlp")), prompt: str | None = None, tokens: int = 8,
) -> Build:
    """Compile linear parts of decoder layers on the activations of a prompt.

    prompt: text for the inputs, at least ``tokens`` tokens long (default: a passage of Darwin's).
    Raises LutripError in one line for anything wrong with the inputs.
    """
    from compiler.build import compile_block
    from compiler.frontends.load import load_model, load_tokenizer
    from compiler.quant.scheme import load_scheme
    from compiler.text import CALIBRATION_TEXT, DEFAULT_PROMPT
    from hw.presets import load_hardware

    chosen, config = load_scheme(scheme), load_hardware(hardware)
    loaded, tokenizer = load_model(model), load_tokenizer(model)
    ids = tokenizer.encode(DEFAULT_PROMPT if prompt is None else prompt)
    if len(ids) < tokens:
        raise LutripError(f"the prompt has {len(ids)} tokens, fewer than the {tokens} asked for; "
                          "give a longer --prompt or fewer --tokens")
    return compile_block(
        loaded, chosen, config, layers=layers, parts=parts, tokens=ids[:tokens],
        calibration=tokenizer.encode(CALIBRATION_TEXT),
    )


def discard_result(build: Path) -> None:
    """Remove a folder's result, which would no longer belong to what the folder then holds."""
    from reports.records import RESULT

    (build / RESULT).unlink(missing_ok=True)


def simulate(
    build: Path, *, simulator: str = "verilator", waves: bool = False,
    max_cycles: int | None = None, memory: MemoryModel | None = None,
    build_dir: Path = Path("build"), progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Simulate a build folder, write its result files and return the result's values."""
    from reports.records import run_record, write_record
    from sim.execute import execute

    discard_result(build)
    done = execute(build, simulator=simulator, waves=waves, max_cycles=max_cycles, memory=memory,
                   build_dir=build_dir, progress=progress)
    write_record(run_record(build, done.values, done.spans))
    return done.values
