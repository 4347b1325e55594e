"""docs/accuracy.md: tables of all schemes, bars, and the command of each row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.verify.accuracy_plan import Plan, Row, Section, command

NOTES = (
    "Same top token: predictions where golden's most likely token is the float model's. KL "
    "divergence of golden from float, in nats a prediction. Bits per weight: codes or indices, "
    "codebooks or tables, scales and minima of the layers' linears. Times are wall times on a "
    "shared machine. Data: [accuracy.json](measured/accuracy.json).")
COMMANDS = ("`python {script}` makes every row that is missing or whose scheme has changed, and "
            "this page. Single rows:")

Results = Mapping[str, Mapping[str, Any]]
HEAD = ("scheme", "weights", "bits per weight", "perplexity", "over float", "same top token",
        "KL divergence", "bar")


def limit(row: Row, results: Results) -> float | None:
    """Largest ratio of perplexity to float that the row's bar allows, None without one."""
    if row.bar is not None:
        return row.bar
    if row.bar_row is None or row.bar_part is None or "relative" not in results.get(
            row.bar_row, {}):
        return None
    return 1 + row.bar_part * float(results[row.bar_row]["relative"])


def bar_cell(row: Row, results: Results) -> str:
    """The row's bar and whether it is met."""
    most, made = limit(row, results), results.get(row.name, {})
    parts = []
    if most is not None and "relative" in made:
        met = 1 + float(made["relative"]) <= most
        text = f"at most {percent(most - 1)}" if most < 2 else f"at most {most:g} times"
        parts.append(f"{text}: {'met' if met else '**missed**'}")
    for key, bound, unit, per in (("quantize_s", row.minutes, "min", 60),
                                  ("peak_memory_bytes", row.gigabytes, "GB", 1e9)):
        if bound is not None and key in made:
            used = float(made[key]) / per
            parts.append(f"{used:.1f} of {bound:g} {unit}: "
                         f"{'met' if used <= bound else '**missed**'}")
    return "; ".join(parts)


def percent(part: float) -> str:
    """With a sign, to a tenth of a percent; large excesses as a factor."""
    return f"{part + 1:.1f} times" if part >= 3 else f"{100 * part:+.1f} %"


def table_row(row: Row, results: Results) -> str:
    """One line of a table."""
    made = results.get(row.name)
    if made is None:
        cells = [row.name, row.method, *[""] * 5, "not run"]
    elif "error" in made:
        cells = [row.name, row.method, *[""] * 5, str(made["error"])]
    else:
        bits = made["bits_per_weight"]
        cells = [row.name, row.method, "–" if bits is None else f"{bits:.2f}",
                 f"{made['perplexity']:.2f}", percent(float(made["relative"])),
                 f"{100 * made['top1_agreement']:.1f} %", f"{made['kl_divergence_nats']:.3f}",
                 bar_cell(row, results)]
    return "| " + " | ".join(cells) + " |"


def section_text(section: Section, results: Results) -> str:
    """Heading, words and table."""
    lines = [f"## {section.title}", "", section.text, "", "| " + " | ".join(HEAD) + " |",
             "|" + "---|" * len(HEAD)]
    lines += [table_row(row, results) for row in section.rows]
    changed = [f"{row.name}: `{row.scheme}` with " + ", ".join(
                   [f"{key} {value}" for key, value in row.changes.items()]
                   + [f"hardware {key} {value}" for key, value in row.hardware_changes.items()])
               for row in section.rows if row.changes or row.hardware_changes]
    if changed:
        lines += ["", "; ".join(changed) + "."]
    return "\n".join([*lines, ""])


def page(plan: Plan, results: Results, script: str) -> str:
    """The whole document."""
    done = [made for made in results.values() if "perplexity" in made]
    lines = ["# Accuracy", ""]
    if done:
        lines += [setting(plan, done[0]), ""]
    lines += [NOTES, ""]
    lines += [section_text(section, results) for section in plan.sections]
    lines += ["## Commands", "", COMMANDS.format(script=script), "", "| row | command |",
              "|---|---|"]
    lines += [f"| {row.name} | `{command(plan, row, script)}` |" for row in plan.rows.values()]
    return "\n".join(lines) + "\n"


def setting(plan: Plan, made: Mapping[str, Any]) -> str:
    """Model, text and calibration in words."""
    text, calibration = (
        f"{each.get('description', each['source'])}, tokens {each['first_token']} to "
        f"{each['first_token'] + each['tokens'] - 1}"
        for each in (made["text"], made["calibration"]))
    return (f"{plan.model} on hardware `{made['hardware']}`: the integers that the hardware "
            f"computes, on golden. Text: {text} in {made['windows']} windows of "
            f"{made['window_tokens']}, {made['predictions']} predictions, sha256 "
            f"`{made['text']['sha256'][:16]}`. Calibration: {calibration}. Float: perplexity "
            f"{made['perplexity_float']:.2f}.")
