"""The page `docs/peers.md`, written from a result of `sim.bench_peers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

HEAD = """\
# Beside its peers

The same matrix products in lutrip and in {names}, one after the other in one run of
`{command}`, which installs the peers from the Python registry ({versions}).
That command writes this page; the data, wall times too, is in
[measured/peers.json](measured/peers.json).

- **Machines differ.** lutrip: its configuration `{hardware}`, {multipliers} int8 products a cycle,
  with memory, fetch, quantization and write-back. SCALE-Sim: a systolic array of
  {rows} x {columns}, no memory stalls, the dataflow with fewest cycles. ZigZag: its own example
  `gemm_l1_l3` with 8 x 8 x 8 multipliers; it searches for the best order of loops. Cycles stand
  side by side and are not a contest.
- **Values.** The peers compute none. lutrip's RTL computes them, and every word that an engine
  writes is compared with integer golden.
- **Time** is processor time, one thread, without imports of Python modules. lutrip's model: from
  the shape to cycles, median of {repeats}. RTL: golden, simulator and comparison of one run of a
  circuit that is built already; starting its process is included and rules small products.
  SCALE-Sim writes no traces, its fastest way. ZigZag includes the files and plots that it always
  writes.
"""


def count(value: float) -> str:
    """A number in three digits, with k, M or G."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.3g}"


def seconds(value: float) -> str:
    """A time in three digits."""
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def times(value: float) -> str:
    """A ratio in two digits, or whole."""
    return f"{value:,.0f} x" if value >= 10 else f"{value:.2g} x"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def page(result: Mapping[str, Any]) -> str:
    """Markdown of a result."""
    peers, rows = result["peers"], result["rows"]
    names = [peers[key]["name"] for key in peers]
    array, total = result["array"], result["summary"]
    parts = [HEAD.format(
        names=" and ".join(names), command=result["command"], hardware=result["hardware"],
        versions=", ".join(f"{peer['name']} {peer['version']}" for peer in peers.values()),
        multipliers=result["multipliers"], rows=array[0], columns=array[1],
        repeats=result["repeats"])]
    parts.append("## Processor time\n")
    parts.append(table(
        ["product (inputs x columns)", "MACs", "lutrip model", "lutrip RTL", *names,
         *(f"model is faster than {name}" for name in names),
         *(f"RTL is faster than {name}" for name in names)],
        [[f"{row['name']} ({row['inputs']} x {row['columns']})", count(row["macs"]),
          seconds(row["model"]["cpu_s"]), seconds(row["rtl"]["cpu_s"]),
          *(seconds(row["peers"][key]["cpu_s"]) for key in peers),
          *(times(row["ratios"][key]["model_faster"]) for key in peers),
          *(times(row["ratios"][key]["rtl_faster"]) for key in peers)] for row in rows]))
    for key, peer in peers.items():
        fast, rtl = total[key]["model_faster"], total[key]["rtl_faster"]
        parts.append(
            f"- Against {peer['name']} the model takes 1/{fast['least']:,.0f} to "
            f"1/{fast['largest']:,.0f} of the time (geometric mean "
            f"1/{fast['geometric_mean']:,.0f}); RTL is {times(rtl['least'])} to "
            f"{times(rtl['largest'])} as fast ({times(rtl['geometric_mean'])}).")
    parts.append("\nProducts (MAC) a second of processor time:\n")
    parts.append(table(
        ["product", "lutrip model", "lutrip RTL", *names],
        [[row["name"], *(count(found["macs_per_cpu_s"]) for found in
                         (row["model"], row["rtl"], *(row["peers"][key] for key in peers)))]
         for row in rows]))
    parts.append("## Cycles\n")
    parts.append(table(
        ["product", "lutrip RTL (simulated)", "bit-exact", "lutrip model", "model's error",
         *(f"{peer['name']} ({peer['kind']})" for peer in peers.values()), "dataflow"],
        [[row["name"], str(row["rtl"]["cycles"]),
          f"{row['rtl']['words_compared']} words" if row["bit_exact"] else "no",
          str(row["model"]["cycles"]), f"{row['model_error']:+.2%}",
          *(str(row["peers"][key]["cycles"]) for key in peers), row["dataflow"]]
         for row in rows]))
    parts.append(
        f"The model's mean absolute error on these is {total['model_mean_absolute_error']:.2%}, "
        f"the worst {total['model_worst_absolute_error']:.2%}. SCALE-Sim's ws, os and is keep "
        "weights, outputs or inputs in the array.")
    return "\n".join(parts) + "\n"
