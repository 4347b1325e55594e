"""The page of a model's calibration statistics: outliers by layer, sinks, choice of the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reports import calibration_figures as figures
from reports.numbers import Fact, Tag, number, percent
from reports.page import new_environment
from reports.picture import Picture, draw

Values = Mapping[str, Any]


def extreme(layers: Sequence[Values], key: str) -> tuple[int, str, float]:
    """Layer and input where a number is largest."""
    found = [(index, name, float(made[key])) for index, layer in enumerate(layers)
             for name, made in layer["inputs"].items()]
    return max(found, key=lambda each: each[2])


def headline(values: Values) -> list[Fact]:
    """What to know first."""
    layers, names = values["layers"], values["linears_of"]
    tag = Tag.COMPUTED
    layer, name, over = extreme(layers, "peak_over_sigma")
    facts = [Fact("largest outlier", f"{number(over, 3)} sigma", tag,
                  f"input of {names[name]}, layer {layer}")]
    channels = sum(made["outlier_channels"] for each in layers for made in each["inputs"].values())
    whole = sum(made["channels"] for each in layers for made in each["inputs"].values())
    facts.append(Fact("outlier channels", percent(channels, whole), tag,
                      f"{number(channels)} of {number(whole)} beyond {figures.SIGMAS} sigma"))
    layer, name, most = extreme(layers, "kurtosis")
    facts.append(Fact("highest kurtosis", number(most, 3), tag,
                      f"input of {names[name]}, layer {layer}; a Gaussian has 3"))
    layer = max(range(len(layers)), key=lambda index: float(layers[index]["massive"]["peak"]))
    massive = layers[layer]["massive"]
    first = massive["largest"][0]
    facts.append(Fact(
        "largest residual", number(massive["peak"], 3), tag,
        f"behind layer {layer}, channel {first['channel']}, position {first['position']}; "
        f"{number(massive['peak_over_median'], 3)} times the median"))
    masses = [np.mean(each["first_token_mass"]) for each in layers]
    facts.append(Fact("attention on the first token", percent(float(np.mean(masses)), 1), tag,
                      f"mean of layers and heads; layer {int(np.argmax(masses))} the most, "
                      f"{percent(float(max(masses)), 1)}"))
    for row in text_rows(values):
        facts.append(Fact(f"second moments on {row['source']}", f"cosine {row['cosine']:.3f}", tag,
                          f"median; least {row['least']:.3f}, input of {row['where']}"))
    return facts


def text_rows(values: Values) -> list[dict[str, Any]]:
    """Each compared text against the calibration text, over all layers and inputs."""
    layers, rows = values["layers"], []
    for text in values["texts"][1:]:
        source = text["source"]
        found = [(made, f"{values['linears_of'][name]}, layer {index}")
                 for index, layer in enumerate(layers)
                 for name, made in layer["texts"][source]["inputs"].items()]
        least, where = min(found, key=lambda each: float(each[0]["hessian_cosine"]))

        def middle(key: str, found: Sequence[tuple[Values, str]] = tuple(found)) -> float:
            return float(np.median([made[key] for made, _ in found]))

        rows.append({
            "source": source, "tokens": text["tokens"], "cosine": middle("hessian_cosine"),
            "least": float(least["hessian_cosine"]), "where": where,
            "range": middle("range_ratio"), "low": middle("range_ratio_low"),
            "high": middle("range_ratio_high"), "clipped": middle("clipped_channels"),
            "trace": middle("trace_ratio"),
        })
    return rows


def pictures_of(values: Values) -> dict[str, Picture]:
    """All figures, by name."""
    layers, names = values["layers"], values["linears_of"]
    others = [text["source"] for text in values["texts"][1:]]
    made = {
        "outliers": (figures.outliers(layers, names), "Outliers of each linear's input"),
        "kurtosis": (figures.kurtosis(layers, names), "Kurtosis of each linear's input"),
        "massive": (figures.massive(layers), "Largest values of the residual behind each layer"),
        "sinks": (figures.sinks(layers), "Attention that later tokens pay to the first"),
        "spectra": (figures.spectra(layers, names), "Spread of the second moments"),
    }
    if others:
        made["robustness"] = (figures.robustness(layers, names, others),
                              f"Other texts against {values['texts'][0]['source']}")
    return {name: draw(figure, f"{name}.png", title, Tag.COMPUTED)
            for name, (figure, title) in made.items()}


def render(values: Values) -> tuple[str, list[Picture]]:
    """The page of ``statistics.json`` and the figures inside."""
    pictures = pictures_of(values)
    text = new_environment().get_template("calibration_page.html").render(
        title=f"Calibration of {values['model']}", values=values, pictures=pictures,
        headline=headline(values), rows=text_rows(values))
    return text, list(pictures.values())
