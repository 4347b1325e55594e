"""Reference tables in Markdown, made from the code and the configuration files themselves."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from compiler.frontends.shapes import PREFIX, SHAPES
from compiler.quant.scheme import CHOICES, KINDS, METHODS, SWITCHES, SchemeMap, load_scheme
from compiler.quant.token_rule import TokenRule
from hw.config import HardwareConfig
from hw.presets import CONFIGS, load_hardware, load_yaml, names
from reports.explore.metrics import METRICS
from reports.reference.docstrings import described, first_comment, hardware_rules
from sim.memory_presets import LIMITS, MemoryPreset, load_memory

NONE = "–"


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; bars in cells are escaped, an empty cell shows a dash."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") or NONE for cell in row) + " |"
        for row in lines)


def shown(value: Any) -> str:
    """A value as a YAML file has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def hardware_parameters() -> str:
    """Every key of a hardware file: meaning and rules."""
    fields = [field.name for field in dataclasses.fields(HardwareConfig)]
    meaning, rules = described(HardwareConfig, fields), hardware_rules()
    return table(["key", "type", "meaning", "must be"], [
        [f"`{field.name}`", field.type, meaning[field.name], "; ".join(rules.get(field.name, []))]
        for field in dataclasses.fields(HardwareConfig)])


def hardware_derived() -> str:
    """Sizes that follow from the parameters."""
    members = inspect.getmembers(HardwareConfig, lambda member: isinstance(member, property))
    return table(["size", "meaning"], [
        [f"`{name}`", " ".join((inspect.getdoc(member) or "").split())]
        for name, member in members])


def hardware_presets() -> str:
    """Shipped hardware side by side."""
    configs = [load_hardware(name) for name in names("hardware")]
    rows = [[f"`{field.name}`", *(shown(getattr(config, field.name)) for config in configs)]
            for field in dataclasses.fields(HardwareConfig) if field.name != "name"]
    return table(["key", *(f"`{config.name}`" for config in configs)], rows)


def shipped(kind: str) -> Callable[[], str]:
    """Files of a kind under configs with the comment that each begins with."""
    def make() -> str:
        return table(["name", "what"], [
            [f"`{name}`", first_comment(CONFIGS / kind / f"{name}.yaml")] for name in names(kind)])
    return make


def _allowed(kind: str, key: str) -> str:
    if key in CHOICES:
        return ", ".join(map(shown, CHOICES[key]))
    if key in SWITCHES:
        return "true, false"
    return ", ".join(METHODS[kind]) if key == "method" else ""


def scheme_keys(kind: str) -> Callable[[], str]:
    """Keys of a scheme file of one kind: default, what is allowed, meaning."""
    def make() -> str:
        meaning: dict[str, str] = {"seed": "of what is drawn by chance, such as k-means' start"}
        for other in (*KINDS.values(), KINDS[kind]):
            meaning |= described(other, [field.name for field in dataclasses.fields(other)])
        return table(["key", "default", "allowed", "meaning"], [
            [f"`{field.name}`", f"`{shown(field.default)}`", _allowed(kind, field.name),
             meaning[field.name]]
            for field in dataclasses.fields(KINDS[kind]) if field.name != "name"])
    return make


def scheme_options() -> str:
    """Keys of any scheme file that concern no single linear layer."""
    fields = [field for field in dataclasses.fields(SchemeMap)
              if field.name not in ("name", "default", "layers")]
    meaning = described(SchemeMap, [field.name for field in dataclasses.fields(SchemeMap)])
    return table(["key", "default", "meaning"], [
        [f"`{field.name}`", "none" if field.default is None else f"`{shown(field.default)}`",
         meaning[field.name]]
        for field in fields])


def token_rule_keys() -> str:
    """Keys of ``token_rule``."""
    fields = dataclasses.fields(TokenRule)
    meaning = described(TokenRule, [field.name for field in fields])
    return table(["key", "default", "meaning"], [
        [f"`{field.name}`", f"`{shown(field.default)}`", meaning[field.name]] for field in fields])


def schemes() -> str:
    """Shipped schemes: kind and what the file says of itself."""
    def kind(name: str) -> str:
        return str(load_yaml(CONFIGS / "schemes" / f"{name}.yaml")["kind"])

    assert all(load_scheme(name) for name in names("schemes"))
    return table(["name", "kind", "what"], [
        [f"`{name}`", kind(name), first_comment(CONFIGS / "schemes" / f"{name}.yaml")]
        for name in names("schemes")])


def shapes() -> str:
    """Published shapes that need no checkpoint."""
    return table(
        ["`--model`", "family", "layers", "width", "heads", "key-value heads", "MLP width",
         "vocabulary", "context"],
        [[f"`{PREFIX}{name}`", shape.family, shape.layers, shape.width, shape.heads,
          shape.kv_heads, shape.ffn_width, shape.vocabulary, shape.context]
         for name, shape in SHAPES.items()])


def devices() -> str:
    """The device table, with sources."""
    rows = load_yaml(CONFIGS / "devices.yaml")
    counts = ("lut", "ff", "bram36", "uram", "dsp")
    return table(["name", "device", "family", *counts, "memory GB/s", "energy", "source"], [
        [f"`{name}`", row["title"], row["family"], *(f"{row[count]:,}" for count in counts),
         row["memory_gb_per_s"], f"`{row['energy']}`", row["source"]]
        for name, row in rows.items()])


def memory_keys() -> str:
    """Keys of a memory file."""
    fields = [field.name for field in dataclasses.fields(MemoryPreset) if field.name != "name"]
    meaning = described(MemoryPreset, fields)
    return table(["key", "range", "meaning"], [
        [f"`{name}`", " to ".join(f"{bound:,.10g}" for bound in LIMITS.get(name, ())),
         meaning[name]] for name in fields])


def memories() -> str:
    """Shipped memories side by side."""
    presets = [load_memory(name) for name in names("memory")]
    return table(["key", *(f"`{preset.name}`" for preset in presets)], [
        [f"`{name}`", *(shown(getattr(preset, name)) for preset in presets)] for name in LIMITS])


def gpus() -> str:
    """GPUs and their software stacks."""
    rows = [(name, load_yaml(CONFIGS / "gpus" / f"{name}.yaml")) for name in names("gpus")]
    return table(["name", "GPU", "GB/s", "TOPS", "idle W", "board W", "stacks"], [
        [f"`{name}`", row["title"],
         *(row["hardware"][key]["value"] for key in ("bandwidth", "rate", "idle", "board")),
         ", ".join(row["stacks"])]
        for name, row in rows])


def _kind(node: dict[str, Any]) -> str:
    """What a place of the study's schema takes."""
    if "enum" in node:
        return "a metric" if set(node["enum"]) == set(METRICS) else ", ".join(node["enum"])
    if "oneOf" in node:
        return " or ".join(map(_kind, node["oneOf"]))
    kind = node["type"]
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"list of {_kind(node['items'])}"
    if kind == "object" and isinstance(more := node.get("additionalProperties"), dict):
        return f"mapping to {_kind(more)}"
    if kind == "object":
        return f"mapping of {', '.join(node['properties'])}"
    return str(kind)


def _study_rows(node: dict[str, Any], place: str) -> Iterator[list[str]]:
    """A row for each key of a mapping of the schema and of the mappings in it."""
    for key, inner in node.get("properties", {}).items():
        path, needed = f"{place}{key}", "required" if key in node.get("required", ()) else ""
        default = f"`{shown(inner['default'])}`" if "default" in inner else ""
        yield [f"`{path}`", _kind(inner), needed or default, inner.get("description", "")]
        yield from _study_rows(inner, f"{path}.")
        yield from _study_rows(inner.get("items", {}), f"{path}[].")


def study_keys() -> str:
    """Keys of a study file, from its JSON schema."""
    schema = json.loads((CONFIGS / "schema" / "study.schema.json").read_text())
    return table(["key", "takes", "default", "meaning"], _study_rows(schema, ""))


def study_metrics() -> str:
    """What objectives and constraints can name."""
    return table(["metric", "what", "unit", "better", "is", "from"], [
        [f"`{name}`", one.label, one.unit, {"minimize": "less", "maximize": "more"}[one.goal],
         one.provenance, one.source] for name, one in METRICS.items()])


def studies() -> str:
    """Shipped studies: what each asks."""
    rows = [(name, load_yaml(CONFIGS / "studies" / f"{name}.yaml")) for name in names("studies")]
    return table(["name", "title", "question"], [
        [f"`{name}`", row["title"], row["question"]] for name, row in rows])


TABLES: dict[str, Callable[[], str]] = {
    "hardware-parameters": hardware_parameters,
    "hardware-derived": hardware_derived,
    "hardware-presets": hardware_presets,
    "hardware-files": shipped("hardware"),
    "scheme-options": scheme_options,
    "token-rule-keys": token_rule_keys,
    "schemes": schemes,
    **{f"scheme-keys-{kind}": scheme_keys(kind) for kind in KINDS},
    "shapes": shapes,
    "devices": devices,
    "memory-keys": memory_keys,
    "memory-files": shipped("memory"),
    "memories": memories,
    "gpus": gpus,
    "study-keys": study_keys,
    "study-metrics": study_metrics,
    "studies": studies,
}
"""Tables by the name that a page asks for them: a line ``<!-- table: NAME -->``."""
