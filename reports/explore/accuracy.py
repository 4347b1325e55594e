"""Loss of a scheme: measured for the whole model where it was, else predicted from its linears.

Sensitivities are those of `compiler.mixed`: what one linear in one scheme adds to the text's loss.
Losses of different linears add up to second order (Dong et al., "HAWQ-V2", section 3.2). A sum of
large losses is too high; so the sum is read off at a curve, the monotone one that is nearest to the
whole models whose sum and loss are both known.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.optimize import isotonic_regression

from compiler.errors import FrontendError
from compiler.frontends.load import load_model
from compiler.quant.layer_keys import layer_key
from compiler.quant.scheme import LINEARS, Lut2dScheme, Scheme, SchemeMap
from hw.config import EXACT_ROW_BITS
from hw.errors import ConfigError
from hw.presets import CONFIGS
from reports.explore.precision import EXACT, EXACT_CACHE_BITS, Precision

FOLDER = CONFIGS / "sensitivity"
LAST = 1 << 20
"""A layer that no key names by its number."""
IRRELEVANT = ("name", "seed", "gather")
"""Fields that do not change the arithmetic, or hardly (a seed)."""
WHOLE_ONLY = ("activation", "rotation", "refine_epochs", "token_rule")
"""Options of a scheme that no loss of a single linear tells of."""
SUM_DIGITS = 9
"""Decimals of a sum in nats; between sums that are nearer to each other no slope can be told."""
Added = Mapping[str, tuple[float, str]]
"""By the `map_key` of a scheme, nats that a precision adds to it, and what says so.

Of a scheme that is not there it adds what it adds to the first one.
"""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Nats a token that a scheme adds; provenance: measured (whole model) or predicted."""

    nats: float
    provenance: Literal["measured", "predicted"]
    source: str


class UnknownSchemeError(ConfigError):
    """A scheme whose sensitivity nobody measured."""


@functools.cache
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


def curve(pairs: Sequence[tuple[float, float]], total: float) -> float:
    """Loss that a sum of single linears' losses stands for.

    pairs: sum and measured loss. From the origin straight between them; measured losses that fall
    while the sum rises take their mean (isotonic regression). Beyond the last the sum goes on, in
    proportion where that is less: sums are too high, if anything. The sum without any pairs.
    """
    if not pairs:
        return total
    given, measured = np.maximum(np.array(pairs), 0.0).T
    sums, places, counts = np.unique(given.round(SUM_DIGITS), return_inverse=True,
                                     return_counts=True)
    losses = isotonic_regression(np.bincount(places, measured) / counts, weights=counts).x
    if total > sums[-1]:
        slope = losses[-1] / sums[-1] if losses[-1] < sums[-1] else 1.0
        return float(losses[-1] + slope * (total - sums[-1]))
    return float(np.interp(total, [0.0, *sums], [0.0, *losses]))


@dataclass(frozen=True, kw_only=True)
class Sensitivities:
    """What is known of a model.

    layers: of the model. losses: by `scheme_key` and linear, nats a token of each layer. whole: by
    `map_key` and counted precision, perplexity over float, and what says so. pairs: sum over the
    linears and measured loss of whole models. rounded: by bits of computed rows, what rounding them
    adds. cache: by bits of keys and bits of values, what those add.
    """

    model: str
    layers: int
    command: str
    losses: Mapping[str, Mapping[str, tuple[float, ...]]]
    whole: Mapping[tuple[str, Precision], tuple[float, str]]
    pairs: tuple[tuple[float, float], ...]
    rounded: Mapping[int, Added]
    cache: Mapping[tuple[int, int], Added]

    def loss(self, scheme: SchemeMap, precision: Precision = EXACT) -> Loss:
        """Loss of a scheme on hardware of a precision; raises UnknownSchemeError, ConfigError.

        Errors are one line.
        """
        precision, key = precision.counted(scheme), map_key(scheme)
        if (found := self.whole.get((key, precision))) is not None:
            return Loss(nats=math.log(found[0]), provenance="measured", source=found[1])
        if precision == EXACT:
            return self.predicted(scheme)
        if precision.cache == EXACT.cache:
            rest, parts = EXACT, [self.added_by_rows(precision.row_bits)]
        else:
            rest = Precision(row_bits=precision.row_bits)
            parts = self.added_by_cache(precision)
        base = self.loss(scheme, rest)
        nats, sources = zip(*(added.get(key, next(iter(added.values()))) for added in parts),
                            strict=True)
        total = base.nats + sum(nats)
        # Added to exact arithmetic this is a whole model's loss; several parts are a sum.
        alone = rest == EXACT and len(parts) == 1 and key in parts[0]
        if alone and base.provenance == "measured":
            return Loss(nats=total, provenance="measured", source=sources[0])
        return Loss(nats=total, provenance="predicted",
                    source=", and ".join((base.source, *sources)))

    def added_by_rows(self, row_bits: int) -> Added:
        """What rounded rows add to schemes; raises UnknownSchemeError."""
        if (known := self.rounded.get(row_bits)) is None:
            bits = " or ".join(map(str, (*sorted(self.rounded), EXACT_ROW_BITS)))
            raise UnknownSchemeError(f"rows of {row_bits} bits were not measured on {self.model}; "
                                     f"use a row_bits of {bits}")
        return known

    def added_by_cache(self, precision: Precision) -> list[Added]:
        """What keys and values add to schemes: together, else one after the other.

        Raises UnknownSchemeError.
        """
        key_bits, value_bits = precision.cache
        for parts in ((precision.cache,),
                      ((key_bits, EXACT_CACHE_BITS), (EXACT_CACHE_BITS, value_bits))):
            if all(part in self.cache for part in parts):
                return [self.cache[part] for part in parts]
        said = Precision(key_bits=key_bits, value_bits=value_bits).text
        raise UnknownSchemeError(f"{said} were not measured on {self.model}; use key_bits "
                                 f"{EXACT_CACHE_BITS}, value_bits {EXACT_CACHE_BITS}")

    def with_whole(
        self, scheme: SchemeMap, precision: Precision, perplexity_ratio: float, source: str
    ) -> Sensitivities:
        """What is known after a scheme's whole model was evaluated on hardware of a precision."""
        precision, pairs = precision.counted(scheme), self.pairs
        if precision == EXACT:
            try:
                pairs = (*pairs, (self.sum_of(scheme), math.log(perplexity_ratio)))
            except UnknownSchemeError:
                pass
        return dataclasses.replace(self, pairs=pairs, whole={
            **self.whole, (map_key(scheme), precision): (perplexity_ratio, source)})

    def predicted(self, scheme: SchemeMap) -> Loss:
        """From the linears of a scheme on hardware of exact precision."""
        source = f"{self.command}, and {len(self.pairs)} whole models" if self.pairs else (
            self.command)
        return Loss(nats=curve(self.pairs, self.sum_of(scheme)), provenance="predicted",
                    source=source)

    def sum_of(self, scheme: SchemeMap) -> float:
        """Losses of single linears added up; raises UnknownSchemeError, ConfigError."""
        scheme.check_layers(self.layers)
        plain = SchemeMap(name=scheme.name, default=scheme.default)
        for option in WHOLE_ONLY:
            if getattr(scheme, option) != getattr(plain, option):
                raise UnknownSchemeError(
                    f"scheme {scheme.name}: what {option} does to {self.model} is known of shipped "
                    "schemes only, as they are; leave accuracy out, or the option")
        total = 0.0
        for linear in next(iter(self.losses.values()), LINEARS):
            for layer in range(self.layers):
                part = scheme.of(linear, layer)
                known = self.losses.get(scheme_key(part))
                if known is None:
                    raise UnknownSchemeError(
                        f"scheme {part.name}: no sensitivity of {self.model} is known; measure it "
                        f"with --measure, or use one of configs/sensitivity")
                total += known[linear][layer]
        return total


@functools.cache
def load_sensitivities(model: str, extra: Path | None = None) -> Sensitivities:
    """What ``configs/sensitivity`` and a file of the user's know of a model; raises ConfigError."""
    path = FOLDER / f"{model}.json"
    return sensitivities_of(json.loads(path.read_text()) if path.is_file() else unmeasured(model),
                            json.loads(extra.read_text()) if extra else None)


def unmeasured(model: str) -> dict[str, Any]:
    """Values of a file on a model of which nothing is known yet; raises ConfigError."""
    try:
        layers = load_model(model).architecture.layers
    except FrontendError as error:
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.json")))
        raise ConfigError(f"accuracy: {error}; sensitivities are known of {known}") from None
    return {"model": model, "layers": layers, "command": "lutrip explore --measure",
            "schemes": [], "whole": []}


def sensitivities_of(value: Mapping[str, Any], more: Mapping[str, Any] | None = None
                     ) -> Sensitivities:
    """From a file's values, and a second file's schemes and cache."""
    def rows_of(name: str) -> list[Mapping[str, Any]]:
        return [row for file in (value, more or {}) for row in file.get(name, ())]

    rounded: dict[int, dict[str, tuple[float, str]]] = {}
    for row in value.get("rounded", ()):
        rounded.setdefault(row["row_bits"], {})[row["key"]] = row["nats"], row["source"]
    cache: dict[tuple[int, int], dict[str, tuple[float, str]]] = {}
    for row in rows_of("cache"):
        bits = row["key_bits"], row["value_bits"]
        cache.setdefault(bits, {})[row["key"]] = row["nats"], row["source"]
    return Sensitivities(
        model=value["model"], layers=value["layers"], command=value["command"],
        losses={row["key"]: {linear: tuple(losses) for linear, losses in row["losses"].items()}
                for row in rows_of("schemes")},
        whole={(row["key"], EXACT): (row["perplexity_ratio"], row["source"])
               for row in value["whole"]},
        pairs=tuple((row["sum_nats"], math.log(row["perplexity_ratio"]))
                    for row in value["whole"] if row.get("sum_nats") is not None),
        rounded=rounded, cache=cache)
