"""Loss of a scheme: measured for the whole model where it was, else sensitivities added up.

Sensitivities are those of `compiler.mixed`: what one linear in one scheme adds to the text's loss.
Losses of different linears add up to second order (Dong et al., "HAWQ-V2", section 3.2); a sum of
large losses is too high, so it orders schemes and is no substitute for an evaluation.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from compiler.quant.layer_keys import layer_key
from compiler.quant.scheme import LINEARS, Lut2dScheme, RowgenScheme, Scheme, SchemeMap
from hw.config import EXACT_ROW_BITS
from hw.errors import ConfigError
from hw.presets import CONFIGS

FOLDER = CONFIGS / "sensitivity"
LAST = 1 << 20
"""A layer that no key names by its number."""
IRRELEVANT = ("name", "seed", "gather")
"""Fields that do not change the arithmetic, or hardly (a seed)."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Nats a token that a scheme adds; provenance: measured (whole model) or predicted."""

    nats: float
    provenance: Literal["measured", "predicted"]
    source: str


class UnknownSchemeError(ConfigError):
    """A scheme whose sensitivity nobody measured."""


def scheme_key(part: Scheme) -> str:
    """Equal for schemes with the same arithmetic."""
    values = dataclasses.asdict(part)
    for name in IRRELEVANT:
        values.pop(name, None)
    if isinstance(part, Lut2dScheme):
        values["kind"] = "lut2d"
    return json.dumps(values, sort_keys=True)


def map_key(scheme: SchemeMap) -> str:
    """Equal for whole models with the same arithmetic."""
    single = {key: scheme_key(part) for key, part in sorted(scheme.layers.items())
              if layer_key(key).layers < math.inf}
    return json.dumps({
        "linears": {linear: scheme_key(scheme.of(linear, LAST)) for linear in LINEARS},
        "layers": single,
        "softmax": scheme.softmax, "activation": scheme.activation, "rotation": scheme.rotation,
        "refine_epochs": scheme.refine_epochs,
        "token_rule": None if scheme.token_rule is None else dataclasses.asdict(scheme.token_rule),
    }, sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class Sensitivities:
    """What is known of a model.

    layers: of the model. losses: by `scheme_key` and linear, nats a token of each layer. whole: by
    `map_key`, perplexity over float, and which row of which file says so. rounded: by bits of
    computed rows and the `map_key` of a scheme, nats that rounding them adds to it, and where it
    says so; of a scheme that is not there the first one's.
    """

    model: str
    layers: int
    command: str
    losses: Mapping[str, Mapping[str, tuple[float, ...]]]
    whole: Mapping[str, tuple[float, str]]
    rounded: Mapping[int, Mapping[str, tuple[float, str]]]

    def loss(self, scheme: SchemeMap, row_bits: int = EXACT_ROW_BITS) -> Loss:
        """Loss of a scheme; raises UnknownSchemeError, ConfigError in one line.

        row_bits: of the hardware's computed rows.
        """
        parts = (scheme.default, *scheme.layers.values())
        if row_bits == EXACT_ROW_BITS or not any(isinstance(p, RowgenScheme) for p in parts):
            return self.exact(scheme)
        if (known := self.rounded.get(row_bits)) is None:
            raise UnknownSchemeError(
                f"rows of {row_bits} bits were not measured on {self.model}; use a row_bits of "
                f"{', '.join(map(str, sorted(self.rounded)))} or {EXACT_ROW_BITS}")
        exact, key = self.exact(scheme), map_key(scheme)
        nats, source = known.get(key, next(iter(known.values())))
        if key in known:
            return Loss(nats=exact.nats + nats, provenance=exact.provenance, source=source)
        return Loss(nats=exact.nats + nats, provenance="predicted",
                    source=f"{exact.source}, and {source}")

    def exact(self, scheme: SchemeMap) -> Loss:
        """Loss of a scheme whose computed rows are not rounded."""
        if (found := self.whole.get(map_key(scheme))) is not None:
            return Loss(nats=math.log(found[0]), provenance="measured", source=found[1])
        scheme.check_layers(self.layers)
        total = 0.0
        for linear in next(iter(self.losses.values()), {}):
            for layer in range(self.layers):
                part = scheme.of(linear, layer)
                known = self.losses.get(scheme_key(part))
                if known is None:
                    raise UnknownSchemeError(
                        f"scheme {part.name}: no sensitivity of {self.model} is known; measure it "
                        f"with --measure, or use one of configs/sensitivity")
                total += known[linear][layer]
        return Loss(nats=total, provenance="predicted", source=self.command)


@functools.cache
def load_sensitivities(model: str, extra: Path | None = None) -> Sensitivities:
    """What ``configs/sensitivity`` and a file of the user's know of a model; raises ConfigError."""
    path = FOLDER / f"{model}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.json")))
        raise ConfigError(f"accuracy: no sensitivities of {model!r} are known; known: {known}")
    return sensitivities_of(json.loads(path.read_text()),
                            json.loads(extra.read_text()) if extra else None)


def sensitivities_of(value: Mapping[str, Any], more: Mapping[str, Any] | None = None
                     ) -> Sensitivities:
    """From a file's values, and a second file's schemes."""
    rows = [*value["schemes"], *(more["schemes"] if more else ())]
    rounded: dict[int, dict[str, tuple[float, str]]] = {}
    for row in value.get("rounded", ()):
        rounded.setdefault(row["row_bits"], {})[row["key"]] = row["nats"], row["source"]
    return Sensitivities(
        model=value["model"], layers=value["layers"], command=value["command"],
        losses={row["key"]: {linear: tuple(losses) for linear, losses in row["losses"].items()}
                for row in rows},
        whole={row["key"]: (row["perplexity_ratio"], row["source"]) for row in value["whole"]},
        rounded=rounded)


