"""From measured sensitivities to mixes: the loss model, the problem to solve, the scheme file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from compiler.errors import CompileError
from compiler.mixed.measure import Measured
from compiler.mixed.sensitivity import Sensitivity
from compiler.mixed.solver import Choice, Problem
from compiler.mixed.spread import Place
from compiler.model import INPUT_OF
from compiler.quant.scheme import SchemeMap

MEASURES = ("output", "trace")

CostOf = Callable[[Mapping[str, float]], float]
"""What counters cost: linear in each of them."""


def predicted_losses(measured: Measured, measure: str) -> dict[tuple[Place, str], float]:
    """Loss in nats for each token that a linear in a candidate adds, by place and candidate.

    The loss of one error behind the layer is known, and loss grows with the square of an error:
    every other candidate's is that loss times the ratio of the measures. Losses of different
    linears add up (Dong et al., "HAWQ-V2", section 3.2). measure: of `MEASURES`; ``trace`` knows
    a layer's own output error only and takes one scale for all linears.
    """
    found: dict[tuple[Place, str], float] = {}
    references: dict[Place, Sensitivity] = {}
    for layer, rows in enumerate(measured.layers):
        for linear in dict.fromkeys(row.linear for row in rows):
            own = sorted((row for row in rows if row.linear == linear),
                         key=lambda row: row.output)
            references[layer, linear] = own[len(own) // 2]
    scale = 1.0
    if measure == "trace":
        total = sum(row.trace for row in references.values())
        scale = sum(measured.losses.values()) / total if total else 0.0
    for layer, rows in enumerate(measured.layers):
        for row in rows:
            place = layer, row.linear
            reference = references[place].output
            if measure == "trace":
                loss = scale * row.trace
            else:
                loss = measured.losses[place] * (row.output / reference if reference else 0.0)
            found[place, row.candidate] = loss
    return found


def problem_of(measured: Measured, measure: str, cost_of: CostOf) -> Problem:
    """The problem of choosing a candidate for every linear."""
    losses = predicted_losses(measured, measure)
    choices, preparations = [], dict[Hashable, float]()
    for layer, rows in enumerate(measured.layers):
        for row in rows:
            key = layer, INPUT_OF[row.linear], row.preparation
            preparations[key] = cost_of(row.cost.preparation)
            choices.append(Choice(
                linear=(layer, row.linear), candidate=row.candidate,
                loss=losses[(layer, row.linear), row.candidate], cost=cost_of(row.cost.own),
                preparation=key))
    return Problem(choices, preparations)


def shared_options(schemes: Mapping[str, SchemeMap]) -> SchemeMap:
    """One of the candidates, which must agree in everything that concerns no linear.

    Raises CompileError in one line for a mix among them or for options that differ.
    """
    first_name, first = next(iter(schemes.items()))
    for name, scheme in schemes.items():
        if scheme.layers:
            raise CompileError(f"candidate {name} is a mix; give schemes of one kind")
        for option in options_of(first) | options_of(scheme):
            if getattr(scheme, option) != getattr(first, option):
                raise CompileError(f"candidates {first_name} and {name} differ in {option}, which "
                                   "a mix has only one of")
        if scheme.token_rule is not None:
            raise CompileError(f"candidate {name} has a token_rule, which a mix cannot weigh")
    return first


def options_of(scheme: SchemeMap) -> dict[str, Any]:
    """Options that concern no linear, where they are not the default."""
    plain = SchemeMap(name="", default=scheme.default)
    values = {option: getattr(scheme, option) for option in vars(plain)
              if option not in ("name", "default", "layers")}
    return {option: value for option, value in values.items()
            if value != getattr(plain, option)}


def mix_yaml(
    chosen: Mapping[Place, str], options: SchemeMap, title: str,
    written: Callable[[str], str] = str,
) -> str:
    """Text of a mix's scheme file.

    The candidate that most linears take is the default, of each kind the most frequent one is the
    kind's, and layers in a row that take another are ranges. written: how the file names a
    candidate.
    """
    default = Counter(chosen.values()).most_common(1)[0][0]
    kinds: dict[str, list[str]] = {}
    for (_, linear), candidate in sorted(chosen.items()):
        kinds.setdefault(linear, []).append(candidate)
    lines = []
    for linear in (name for name in INPUT_OF if name in kinds):
        candidates = kinds[linear]
        usual = Counter(candidates).most_common(1)[0][0]
        if usual != default:
            lines.append((linear, usual))
        lines += [(f"{span}.{linear}", candidate) for span, candidate in spans(candidates)
                  if candidate != usual]
    head = [f"# {title}", "kind: mix", f"default: {written(default)}"]
    head += [f"{option}: {value}" for option, value in options_of(options).items()]
    if lines:
        head.append("layers:")
    return "\n".join([*head, *(f"  {key}: {written(name)}" for key, name in lines)]) + "\n"


def spans(candidates: Sequence[str]) -> list[tuple[str, str]]:
    """Runs of layers with one candidate, as ``3`` or ``0-4``."""
    result, first = [], 0
    for layer in range(1, len(candidates) + 1):
        if layer == len(candidates) or candidates[layer] != candidates[first]:
            last = layer - 1
            result.append((str(first) if first == last else f"{first}-{last}", candidates[first]))
            first = layer
    return result
