"""Sensitivities of SmolLM2 to schemes: ``python -m tests.verify.sensitivity`` (hours; resumes).

Writes configs/sensitivity/smollm2-135m.json: what each linear in each scheme adds to the loss, and
the perplexities of whole models that docs/measured/accuracy.json has.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

from compiler.frontends.load import load_model
from compiler.image.image import write_atomically
from compiler.quant.scheme import load_scheme
from hw.presets import names
from lutrip.sensitivities import scheme_rows
from reports.explore.accuracy import (
    FOLDER,
    Sensitivities,
    UnknownSchemeError,
    map_key,
    sensitivities_of,
)
from reports.explore.precision import Precision, with_precision

COMMAND = "python -m tests.verify.sensitivity"
MODEL = "smollm2-135m"
GROUPS = (("simd-w4a8", "rowgen-2bit", "rowgen-3bit", "rowgen-4bit"),
          ("lut2d-int4-c16", "lut2d-int4"))
"""Schemes that are measured side by side, each group with one vector length."""
NARROW_CACHES = (Precision(key_bits=4), Precision(value_bits=4),
                 Precision(key_bits=4, value_bits=4))
ACCURACY = Path("docs/measured/accuracy.json")
ROUNDED = ("rowgen-2bit", "rowgen-1.5bit")
"""Schemes on which narrower rows were measured; the first stands for others."""
CACHED = "simd-w4a8"
"""The scheme whose rows on hardware of narrow keys and values stand for others."""


def sum_of(known: Sensitivities, name: str) -> float | None:
    """Losses of a scheme's linears added up, None where one was not measured."""
    try:
        return known.sum_of(load_scheme(name))
    except UnknownSchemeError:
        return None


def whole_models(known: Sensitivities) -> list[dict[str, Any]]:
    """Measured perplexities of shipped schemes as they are."""
    rows = json.loads(ACCURACY.read_text())["rows"]
    return [{"name": name, "key": map_key(load_scheme(name)),
             "perplexity_ratio": 1 + rows[name]["relative"], "sum_nats": sum_of(known, name),
             "source": f"{ACCURACY}, row {name}"}
            for name in names("schemes") if "relative" in rows.get(name, {})
            and rows[name]["scheme"] == name and not rows[name]["fixed_point_only"]]


def rounded_rows() -> list[dict[str, Any]]:
    """What rounding computed rows adds, from the rows of ``ROUNDED`` on narrower hardware."""
    rows, found = json.loads(ACCURACY.read_text())["rows"], []
    for scheme in ROUNDED:
        for name, row in rows.items():
            match = re.fullmatch(f"{re.escape(scheme)}, rows of (\\d+) bits", name)
            if match and "relative" in row:
                exact = math.log1p(rows[scheme]["relative"])
                found.append({"row_bits": int(match[1]), "key": map_key(load_scheme(scheme)),
                              "nats": math.log1p(row["relative"]) - exact,
                              "source": f"{ACCURACY}, row {name}"})
    return found


def cache_rows() -> list[dict[str, Any]]:
    """What narrow keys and values add, from the rows of schemes on such hardware."""
    rows = json.loads(ACCURACY.read_text())["rows"]
    return [{"key_bits": precision.key_bits, "value_bits": precision.value_bits,
             "key": map_key(load_scheme(scheme)),
             "nats": math.log1p(rows[name]["relative"]) - math.log1p(rows[scheme]["relative"]),
             "source": f"{ACCURACY}, row {name}"}
            for scheme in dict.fromkeys((CACHED, *names("schemes"))) for precision in NARROW_CACHES
            if "relative" in rows.get(name := with_precision(scheme, precision), {})]


def main() -> None:
    """Measure what is missing, write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/sensitivity"))
    parser.add_argument("--only-whole", action="store_true",
                        help="keep the linears' losses, take over the whole models' anew")
    arguments = parser.parse_args()
    path, rows = FOLDER / f"{MODEL}.json", []
    if arguments.only_whole:
        rows = json.loads(path.read_text())["schemes"]
    for number, group in enumerate(() if arguments.only_whole else GROUPS):
        parts = [load_scheme(name).default for name in group]
        rows += scheme_rows(MODEL, parts, arguments.work / str(number),
                            lambda said: print(said, file=sys.stderr, flush=True))
    values = {"model": MODEL, "layers": load_model(MODEL).architecture.layers,
              "command": COMMAND, "schemes": rows, "whole": []}
    values |= {"whole": whole_models(sensitivities_of(values)), "rounded": rounded_rows(),
               "cache": cache_rows()}
    FOLDER.mkdir(exist_ok=True)
    write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
