"""Mixed precision: a scheme for every linear of every layer, for a budget."""

from __future__ import annotations

import re
from pathlib import Path

import click

from hw.errors import LutripError
from lutrip.options import json_option, write_json

SUFFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def budget_of(text: str) -> tuple[str, float]:
    """``bytes=30M`` as cost and amount; raises LutripError."""
    match = re.fullmatch(r"(\w+)=([0-9.]+(?:e[+-]?\d+)?)([kMGmun]?)", text)
    try:
        if match is None:
            raise ValueError
        return match.group(1), float(match.group(2)) * SUFFIXES[match.group(3)]
    except ValueError:
        raise LutripError("--budget must be COST=AMOUNT such as bytes=30M, cycles=2e6 or "
                          f"energy=5m, not {text!r}") from None


@click.command(name="mix")
@click.option("--model", "model_name", required=True,
              help="A .gguf file, a Hugging Face folder, smollm2-135m, or shape:NAME.")
@click.option("--hw", "hardware_name", default="sim", show_default=True,
              help="Hardware configuration: a name or a YAML file.")
@click.option("--candidates", required=True,
              help="Schemes that a linear may have, names or YAML files, with commas between.")
@click.option("--budget", default=None,
              help="One mix that costs at most COST=AMOUNT: bytes=30M, cycles=2e6, energy=5m.")
@click.option("--front", "points", default=8, show_default=True, type=click.IntRange(2),
              help="Without --budget: mixes of the Pareto front.")
@click.option("--cost", default=None, type=click.Choice(("bytes", "cycles", "energy")),
              help="Cost of the front [default: bytes].")
@click.option("--tokens", default=1, show_default=True, type=click.IntRange(1),
              help="Tokens of the pass that is costed: 1 is decode.")
@click.option("--sensitivity", default="output", show_default=True,
              type=click.Choice(("output", "trace")),
              help="Measured error of the layer, or HAWQ-V2's Hessian trace.")
@click.option("--text", default="news", show_default=True,
              help="Text that sensitivities are measured on: news, wikipedia or a file.")
@click.option("--text-tokens", default=256, show_default=True, type=click.IntRange(2),
              help="Tokens of it.")
@click.option("--calibration", default=None,
              help="Text of scales and codebooks [default: as lutrip evaluate has it].")
@click.option("--calibration-tokens", default=2048, show_default=True, type=click.IntRange(1),
              help="Tokens of it; built-in passages are taken whole.")
@click.option("--evaluate", "evaluated", default=0, show_default=True, type=click.IntRange(0),
              help="Mixes to evaluate on golden.")
@click.option("--evaluate-single", is_flag=True,
              help="Evaluate every candidate alone, too.")
@click.option("--evaluate-tokens", default=4096, show_default=True, type=click.IntRange(2),
              help="Tokens of an evaluation.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False),
              help="Folder to write; what was measured there before is taken over.")
@json_option
def command(
    model_name: str, hardware_name: str, candidates: str, budget: str | None, points: int,
    cost: str | None, tokens: int, sensitivity: str, text: str, text_tokens: int,
    calibration: str | None, calibration_tokens: int, evaluated: int, evaluate_single: bool,
    evaluate_tokens: int, out: Path, json_path: Path | None,
) -> None:
    """Choose a scheme for every linear of every layer, for a budget of bytes, cycles or joules.

    Measures how much each candidate harms each linear, counts what it costs, and solves for the
    least predicted loss. Writes front.json, front.svg and a scheme file for each mix, which
    compile and evaluate take as --scheme.

    \b
    Examples:
      lutrip mix --model smollm2-135m --candidates simd-w4a8,rowgen-2bit,rowgen-3bit --out mix
      lutrip mix --model smollm2-135m --candidates simd-w4a8,simd-w8a8 --budget cycles=3M --out m
      lutrip evaluate --model smollm2-135m --scheme mix/mix-4.yaml
    """
    from rich.console import Console

    from lutrip.api import mix

    amount = None
    if budget is not None:
        kind, amount = budget_of(budget)
        if cost not in (None, kind):
            raise LutripError(f"--cost {cost} does not go with --budget {budget}")
        cost = kind
    with Console(stderr=True).status("reading the model") as status:
        values = mix(
            model_name, hardware_name, [name.strip() for name in candidates.split(",") if name],
            out, cost=cost or "bytes", budget=amount, points=points, tokens=tokens,
            sensitivity=sensitivity, text=text, unseen_tokens=text_tokens,
            calibration=calibration, calibration_tokens=calibration_tokens, evaluate=evaluated,
            evaluate_single=evaluate_single, evaluate_tokens=evaluate_tokens,
            progress=status.update)
    for row in [*values["points"], *values["single"]]:
        line = (f"{row['scheme']}: {row['cost']:,.6g} {values['unit']}, predicted "
                f"{row['predicted_loss']:.4g} nats per token")
        if (found := row["measured"]) is not None:
            line += (f", measured {found['kl_divergence_nats']:.4g}, perplexity "
                     f"{found['perplexity']:.3f} (float {found['perplexity_float']:.3f})")
        click.echo(line)
    click.echo(f"{out}: {len(values['points'])} scheme files, front.json, front.svg")
    write_json(json_path, values)
