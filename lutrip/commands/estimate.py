"""The fast model: cycles, tokens a second and joules of a whole model without simulating it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from lutrip.options import json_option, write_json

SHOWN = 8
"""Operations that are printed; --json has all."""


def joules_text(values: Mapping[str, Any]) -> str:
    """Energy on chip with its likely range."""
    found = values["energy"]
    return (f"{values['energy_j']:.4g} J (likely {found['likely_low_j']:.3g} to "
            f"{found['likely_high_j']:.3g})")


def warn_of_shared_memory(hardware: str, memory: Mapping[str, Any]) -> None:
    """One line where the ports together could ask for more than the device's memory gives."""
    most, asked = memory["device_gb_per_s"], memory["ports_gb_per_s"]
    if most is not None and asked > most:
        click.echo(f"warning: memory {memory['preset']} gives {most:g} GB/s in all, the ports of "
                   f"{hardware} ask for up to {asked:g} GB/s; each is modelled at its own rate, so "
                   "these figures may be too good", err=True)


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
    click.echo(f"resources: {values['verdict']} (modelled)")
    for name in ("prefill", "decode"):
        if name not in values:
            continue
        found = values[name]
        click.echo(
            f"{name}: {found['tokens']} tokens in {found['passes']} passes, "
            f"{found['cycles']:,} cycles, {found['latency_s'] * 1e3:,.3f} ms, "
            f"{found['tokens_per_s']:,.2f} tokens/s, {joules_text(found)}")
        for one in found["operations"][:SHOWN]:
            share = one["busy_cycles"] / found["cycles"]
            click.echo(f"  {one['name']:<32} {one['engine']:<9} {share:6.1%}  {one['bound']}")
        path = ", ".join(f"{one['name']} {one['cycles'] / found['cycles']:.0%}"
                         for one in found["critical_path"][:5])
        roof = found["roofline"]
        click.echo(f"  critical path: {path}")
        click.echo(f"  lookup lanes {roof['lookup_utilization']:.1%}, multipliers "
                   f"{roof['array_utilization']:.1%}, weight ports {roof['port_utilization']:.1%}")
        causes = sorted(found["energy"]["causes"], key=lambda cause: -cause["joules"])
        parts = ", ".join(f"{cause['cause']} {cause['joules'] / found['energy_j']:.0%}"
                          for cause in causes[:5])
        click.echo(f"  energy: {parts}")
    click.echo(f"in all: {values['latency_s'] * 1e3:,.3f} ms, {joules_text(values)}")
    warn_of_shared_memory(values["hardware"], values["memory"])
    error = values["measured_error"]
    if error is None:
        click.echo("error against RTL: see docs/cycle-model.md")
    else:
        click.echo(f"error against RTL over {error['runs']} random runs: mean "
                   f"{error['mean_absolute_error']:.2%}, worst "
                   f"{error['worst_absolute_error']:.2%}")
    write_json(json_path, values)
