"""The fast model: cycles, tokens a second and joules of a whole model without simulating it."""

from __future__ import annotations

from pathlib import Path

import click

from lutrip.options import json_option, write_json

SHOWN = 8
"""Operations that are printed; --json has all."""


@click.command(name="estimate")
@click.option("--model", required=True,
              help="A .gguf file, a Hugging Face folder, smollm2-135m, or shape:NAME.")
@click.option("--scheme", required=True, help="Quantization scheme: a name or a YAML file.")
@click.option("--hw", "hardware", default="sim", show_default=True,
              help="Hardware configuration: a name or a YAML file.")
@click.option("--prefill", default=64, show_default=True, type=click.IntRange(1),
              help="Tokens of the prompt.")
@click.option("--decode", default=16, show_default=True, type=click.IntRange(0),
              help="Tokens to decode behind the one that the prompt gives.")
@click.option("--memory", default=None,
              help="External memory: a name or a YAML file [default: that of the device].")
@json_option
def command(
    model: str, scheme: str, hardware: str, prefill: int, decode: int, memory: str | None,
    json_path: Path | None,
) -> None:
    """Estimate a whole model from the program that the compiler emits, without simulating it.

    \b
    Examples:
      lutrip estimate --model smollm2-135m --scheme simd-w4a8 --prefill 64 --decode 128
      lutrip estimate --model shape:qwen3-1.7b --scheme lut2d --hw u280 --prefill 32 --decode 64
      lutrip estimate --model shape:tiny --scheme simd-w4a8-tiny --hw tiny --memory ideal
    """
    from lutrip.estimating import estimate_values

    values = estimate_values(model, scheme, hardware, prefill, decode, memory)
    click.echo(f"{model}, {scheme} on {values['hardware']} at {values['clock_mhz']:g} MHz, memory "
               f"{values['memory']['preset']} (modelled)")
    for name in ("prefill", "decode"):
        if name not in values:
            continue
        found = values[name]
        click.echo(
            f"{name}: {found['tokens']} tokens, {found['cycles']:,} cycles, "
            f"{found['latency_s'] * 1e3:,.3f} ms, {found['tokens_per_s']:,.2f} tokens/s, "
            f"{found['energy_j']:.4g} J ({found['energy_low_j']:.3g} to "
            f"{found['energy_high_j']:.3g})")
        for one in found["operations"][:SHOWN]:
            share = one["busy_cycles"] / found["cycles"]
            click.echo(f"  {one['name']:<32} {one['engine']:<9} {share:6.1%}  {one['bound']}")
        path = ", ".join(f"{one['name']} {one['cycles'] / found['cycles']:.0%}"
                         for one in found["critical_path"][:5])
        roof = found["roofline"]
        click.echo(f"  critical path: {path}")
        click.echo(f"  lookup lanes {roof['lookup_utilization']:.1%}, multipliers "
                   f"{roof['array_utilization']:.1%}, weight ports {roof['port_utilization']:.1%}")
    error = values["measured_error"]
    if error is not None:
        click.echo(f"error against RTL over {error['runs']} random runs: mean "
                   f"{error['mean_absolute_error']:.2%}, worst "
                   f"{error['worst_absolute_error']:.2%}")
    write_json(json_path, values)
