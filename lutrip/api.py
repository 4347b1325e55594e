"""The Python interface: what each command does, as a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw.errors import LutripError

if TYPE_CHECKING:
    from compiler.build import Build
    from sim.passes import PassProgress
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


def compile_decoder(
    model: str, scheme: str, hardware: str, out: Path, *, prompt: str, new_tokens: int = 16,
    capacity: int | None = None, split_layers: bool = False, calibration: str | None = None,
    work: Path | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Compile a whole model that continues a prompt into the folder ``out``; returns build.json.

    capacity: positions of the key-value cache, at least those of all tokens but the last.
    calibration: text of scales and codebooks, by default `compile_calibration`
    (`compiler.calibration_text`). work: folder that keeps quantized weights, by default that of
    evaluate. Raises LutripError in one line for anything wrong with the inputs.
    """
    from compiler.calibration_text import calibration_tokens, compile_calibration
    from compiler.decoder.build import DecoderCompiler
    from compiler.decoder.quantize import quantize_decoder
    from compiler.decoder.work_folder import default_folder
    from compiler.frontends.load import load_model, load_tokenizer
    from compiler.quant.scheme import load_scheme
    from hw.presets import load_hardware

    chosen, config = load_scheme(scheme), load_hardware(hardware)
    loaded, tokenizer = load_model(model), load_tokenizer(model)
    ids = tokenizer.encode(prompt)
    if not ids:
        raise LutripError("the prompt has no tokens; give a longer --prompt")
    needed = len(ids) + new_tokens - 1
    if needed > loaded.architecture.context:
        raise LutripError(f"{needed} positions, {loaded.architecture.name} was made for "
                          f"{loaded.architecture.context}; give a shorter --prompt or fewer "
                          "--new-tokens")
    if capacity is not None and capacity < needed:
        raise LutripError(f"{needed} positions exceed the key-value capacity of {capacity}; "
                          "give a larger --capacity")
    source = calibration or compile_calibration(loaded, chosen)
    decoder = quantize_decoder(
        loaded, chosen, config, calibration_tokens(tokenizer, source),
        capacity=capacity or needed, work=work or default_folder(), progress=progress)
    compiler = DecoderCompiler(decoder, ids, new_tokens, split_layers=split_layers,
                               progress=progress)
    discard_result(out)
    return compiler.write(out, {"model": model, "scheme": chosen.name, "prompt": prompt,
                                "calibration": source})


def discard_result(build: Path) -> None:
    """Remove a folder's result, which would no longer belong to what the folder then holds."""
    from reports.records import RESULT

    (build / RESULT).unlink(missing_ok=True)


def simulate(
    build: Path, *, simulator: str = "verilator", waves: bool = False, activity: bool = False,
    max_cycles: int | None = None, memory: MemoryModel | None = None,
    build_dir: Path = Path("build"), resume: bool = True,
    sample_layers: Sequence[int] | None = None,
    progress: Callable[[str], None] = lambda text: None,
    passes: Callable[[PassProgress], None] = lambda report: None,
) -> dict[str, Any]:
    """Simulate a build folder, write its result files and return the result's values.

    Of a whole model's build: resume takes over the passes that an earlier run finished;
    sample_layers are those that run in RTL (default: all); passes is told the progress.
    activity: the energy uses how often nets changed in this run (Verilator, no waves, no resume).
    """
    from reports.records import run_record, write_record
    from sim.execute import execute

    discard_result(build)
    done = execute(build, simulator=simulator, waves=waves, activity=activity,
                   max_cycles=max_cycles, memory=memory, build_dir=build_dir, resume=resume,
                   sample_layers=sample_layers, progress=progress, passes=passes)
    write_record(run_record(build, done.values, done.spans))
    return done.values


def evaluate(
    model: str, scheme: str, hardware: str = "sim", *,
    quantizing: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int], None] = lambda done, total: None, **options: Any,
) -> dict[str, Any]:
    """Scores of a model's integers beside float: perplexity, agreement, divergence, errors.

    options: those of `lutrip.evaluation.Evaluator`, which takes several schemes. Raises
    LutripError in one line for anything wrong with the inputs.
    """
    from lutrip.evaluation import Evaluator

    return Evaluator(model, hardware, **options).run(scheme, quantizing, progress)


def estimate(
    model: str, scheme: str, hardware: str = "sim", *, prefill: int = 128, decode: int = 64,
    memory: str | None = None,
) -> dict[str, Any]:
    """Cycles, latency and energy of a whole model by the fast model: nothing is simulated.

    prefill: tokens of the prompt; decode: those behind the one that the prompt gives. memory: name
    or file, by default that of the device. The values are those of ``lutrip estimate --json``.
    Raises LutripError in one line for anything wrong with the inputs.
    """
    from lutrip.estimating import estimate_values

    return estimate_values(model, scheme, hardware, prefill, decode, memory)


def mix(
    model: str, hardware: str, candidates: Sequence[str], out: Path, **options: Any,
) -> dict[str, Any]:
    """Choose a scheme for every linear of every layer for a budget; writes scheme files.

    options: those of `lutrip.mixing.mix`. Raises LutripError in one line for anything wrong with
    the inputs.
    """
    from lutrip.mixing import mix as mix_schemes

    return mix_schemes(model, hardware, candidates, out, **options)


def explore(
    study: str, out: Path, *, points: int | None = None, seed: int | None = None,
    say: Callable[[str], None] = lambda text: None, **options: Any,
) -> dict[str, Any]:
    """Search a design space into a folder, with its report; the values of study.json.

    study: a name or a file. points, seed: instead of the study's. options: those of
    `lutrip.exploring.Options`. Raises LutripError in one line for anything wrong with the inputs.
    """
    from lutrip.exploring import Options, read_study, run_study

    return run_study(read_study(study, points, seed), out, Options(**options),
                     f"lutrip.api.explore({study!r}, {str(out)!r})", say)
