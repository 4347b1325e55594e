"""Numbers as a report shows them: rounded, with a unit, and with where they come from."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

PREFIXES = {-12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}


class Tag(enum.StrEnum):
    """Where a number comes from."""

    SIMULATED = "simulated"
    MODELLED = "modelled"
    MEASURED = "measured"
    COMPUTED = "computed"
    PREDICTED = "predicted"
    PUBLISHED = "published"
    SETTING = "setting"


MEANINGS = {
    Tag.SIMULATED: "counted in the cycle-accurate RTL run, or computed from its results alone",
    Tag.MODELLED: "computed from simulated counts, or by the cycle model, with assumed values: "
                  "clock, energy and resource tables",
    Tag.MEASURED: "wall time on the machine that ran the simulator; in a study, accuracy of "
                  "golden on a text",
    Tag.COMPUTED: "computed by the float model or by golden on a text, without a circuit",
    Tag.PREDICTED: "put together from measurements of the parts, not evaluated as a whole",
    Tag.PUBLISHED: "from a vendor's document or a paper",
    Tag.SETTING: "chosen by the user, or following from the choice alone",
}


@dataclass(frozen=True)
class Fact:
    """One number or word of the report; ``note`` says what is special about it."""

    label: str
    value: str
    tag: Tag
    note: str = ""


def number(value: float, digits: int = 4) -> str:
    """Whole numbers in full with thousands separators, others to ``digits`` significant ones."""
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    if 1e-3 <= abs(value) < 1e15:
        places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        return f"{value:,.{places}f}"
    return f"{value:.{digits - 1}e}"


def quantity(value: float, unit: str, digits: int = 4) -> str:
    """A number with an SI prefix before its unit: 0.0123, "J" gives 12.30 mJ."""
    if value == 0:
        return f"0 {unit}"
    power = 3 * math.floor(math.log10(abs(value)) / 3)
    power = min(max(power, min(PREFIXES)), max(PREFIXES))
    scaled = value / 10.0**power
    places = max(0, digits - 1 - math.floor(math.log10(abs(scaled))))
    return f"{scaled:,.{places}f} {PREFIXES[power]}{unit}"


def percent(part: float, whole: float) -> str:
    """``part`` of ``whole``, to a tenth of a percent; a dash where there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else "–"
