"""The rounds of LUT-LLM's linear engine on our circuit of the same geometry, by the cycle model."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.model import Architecture
from compiler.quant.scheme import load_scheme
from hw.isa import Engine
from hw.presets import load_hardware
from reports.reproduction.lutllm_design import Design, Round, rounds
from reports.reproduction.published import error, table
from sim.estimate import rows as row_of
from sim.estimate.program import Circuit
from sim.estimate.timeline import BEGAN, COMPLETED
from sim.memory_presets import load_memory
from sim.peers.gemm import Gemm, program_place, structural_program

HARDWARE, SCHEME, MEMORY = "v80-lutllm", "lut2d-int4", "ideal"
PASSES = {"decode": 1, "prefill(32)": 32}


@dataclass(frozen=True, kw_only=True)
class OwnRound:
    """Cycles of one round in our circuit.

    search: from the first vector until the first lookup begins; lookups: from there to the last;
    drain: from there until the last result is in vector memory.
    """

    search: int
    lookups: int
    drain: int


def own_round(design: Design, item: Round, tokens: int) -> OwnRound:
    """A round as one linear, whose codes are searched once as in the published design."""
    hardware = load_hardware(HARDWARE)
    gemm = Gemm(name=item.name, tokens=tokens, columns=item.blocks * design.lanes,
                inputs=item.groups * design.positions * design.vector_length)
    program = structural_program(gemm, hardware, load_scheme(SCHEME).default)
    memory = load_memory(MEMORY).at(hardware)
    timeline = Circuit.of(hardware, memory).run(program, program_place(hardware))
    engines = program[timeline.index, row_of.ENGINE]
    began, ended = timeline.steps[:, BEGAN], timeline.steps[:, COMPLETED]
    search, lookups, drain = (engines == engine for engine in
                              (Engine.SEARCH, Engine.LINEAR, Engine.DRAIN))
    start, last = int(began[lookups].min()), int(ended[lookups].max())
    return OwnRound(search=start - int(began[search].min()), lookups=last - start,
                    drain=int(ended[drain].max()) - last)


def own_section(design: Design, model: Architecture) -> list[str]:
    """Published and own cycles of each round, and what the difference is."""
    lines = [
        "### The same geometry in our circuit", "",
        (f"`{HARDWARE}` has the published engine's positions, lanes, ports, chains and clock. It "
         "has no attention and no norms, so a whole layer cannot run on it; its rounds are "
         f"modelled here by the cycle model ([cycle-model.md](cycle-model.md)), {SCHEME}, "
         f"memory `{MEMORY}` as in the published co-simulation."), "",
    ]
    for name, tokens in PASSES.items():
        found = [(item, item.groups * max(item.load_cycles(design), tokens * item.blocks),
                  own_round(design, item, tokens)) for item in rounds(design, model)]
        rows = [[item.name, f"{cycles:,}", f"{own.lookups:,}", error(own.lookups, cycles),
                 f"{own.search:,}", f"{own.drain:,}"] for item, cycles, own in found]
        rows.append([
            "sum", f"{sum(cycles for _, cycles, _ in found):,}",
            f"{sum(own.lookups for *_, own in found):,}",
            error(sum(own.lookups for *_, own in found), sum(cycles for _, cycles, _ in found)),
            f"{sum(own.search for *_, own in found):,}",
            f"{sum(own.drain for *_, own in found):,}"])
        lines += table([name, "lookups, published (derived)", "lookups, ours (modelled)",
                        "deviation", "search before the first lookup", "drain behind the last"],
                       rows)
    return [*lines, (
        "Lookups agree: the same words through the same ports. The rest is order. The published "
        "search hands each group's codes on as it finds them; ours is an instruction of its own "
        "for a quarter of the positions, so that the first quarter is found before lookups begin, "
        "while the other three hide behind them. The published drains overlap with nothing "
        "either; ours move 32 columns a cycle too, but in decode each 32 columns wait for four "
        "words of parameters from the aux port. The cycle model was held to RTL on smaller "
        "circuits; this one was not simulated."), ""]
