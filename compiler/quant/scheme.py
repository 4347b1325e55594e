"""Quantization schemes: how a linear layer is quantized and computed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compiler.activation_table import function_of
from hw.errors import ConfigError
from hw.presets import check_keys, find, load_yaml

LINEARS = ("q", "k", "v", "o", "gate", "up", "down")
"""Linear layers of a decoder layer, by the names a mix uses."""
SOFTMAX = ("int8", "log2")
"""Widths of softmax numerators: 8-bit, or 4-bit powers of two."""


@dataclass(frozen=True, kw_only=True)
class Lut2dScheme:
    """Vector-quantized weights and activations, products from tables (LUT-LLM).

    vector_length: v; act_codes: c_a; weight_codes: c_w; group_columns: G; entry_bits: 8 or 4;
    metric: chebyshev or l2; gather: fetch only the chosen centroid's rows instead of streaming.
    """

    name: str
    vector_length: int = 2
    act_codes: int = 64
    weight_codes: int = 16
    group_columns: int = 512
    entry_bits: int = 8
    metric: str = "chebyshev"
    gather: bool = False
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class RowgenScheme:
    """Vector-quantized weights, int8 activations; rows are computed from the codebook."""

    name: str
    vector_length: int = 2
    weight_codes: int = 16
    group_columns: int = 512
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class SimdScheme:
    """Integer weights in groups, integer activations per token (Agile-Quant).

    weight_bits, act_bits: 4 or 8; group: inputs that share a weight scale; trip_max: largest
    power-of-two channel exponent (0: none); native_blocks: run a GGUF tensor's own blocks of
    ``weight_bits`` as they are (their group of 32 then replaces ``group``).
    """

    name: str
    weight_bits: int = 4
    act_bits: int = 8
    group: int = 128
    trip_max: int = 4
    native_blocks: bool = True
    seed: int = 0


Scheme = Lut2dScheme | RowgenScheme | SimdScheme

KINDS: dict[str, type[Any]] = {"lut2d": Lut2dScheme, "rowgen": RowgenScheme, "simd": SimdScheme}

CHOICES: dict[str, tuple[Any, ...]] = {
    "vector_length": (1, 2, 4),
    "act_codes": tuple(2**n for n in range(1, 9)),
    "weight_codes": tuple(2**n for n in range(1, 9)),
    "group_columns": tuple(2**n for n in range(4, 16)),
    "entry_bits": (4, 8),
    "metric": ("chebyshev", "l2"),
    "weight_bits": (4, 8),
    "act_bits": (4, 8),
    "group": (16, 32, 64, 128, 256),
    "trip_max": (0, 1, 2, 3, 4),
}


@dataclass(frozen=True, kw_only=True)
class SchemeMap:
    """A scheme for every linear layer: one for all, or a mix.

    softmax: int8 or log2 (4-bit powers of two). activation: function that replaces the model's
    own, a name or an expression of x, or None.
    """

    name: str
    default: Scheme
    layers: dict[str, Scheme] = field(default_factory=dict)
    softmax: str = "int8"
    activation: str | None = None

    def of(self, linear: str) -> Scheme:
        """Scheme of a linear layer by its kind (q, k, v, o, gate, up, down)."""
        return self.layers.get(linear, self.default)


def _scheme(path: Path, value: dict[str, Any], name: str) -> Scheme:
    kind = KINDS[value["kind"]]
    known = set(kind.__dataclass_fields__) - {"name"} | {"kind"}
    check_keys(path, value, known, {"kind"})
    for key, given in value.items():
        if key in CHOICES and (given not in CHOICES[key] or isinstance(given, bool)):
            allowed = ", ".join(str(choice) for choice in CHOICES[key])
            raise ConfigError(f"{path}: {key} must be one of {allowed}, not {given!r}")
        if key in ("gather", "native_blocks") and not isinstance(given, bool):
            raise ConfigError(f"{path}: {key} must be true or false, not {given!r}")
        if key == "seed" and (not isinstance(given, int) or isinstance(given, bool) or given < 0):
            raise ConfigError(f"{path}: seed must be a whole number from 0, not {given!r}")
    if value.get("weight_bits") == 8 and value.get("act_bits", 8) == 4:
        raise ConfigError(f"{path}: int8 weights need act_bits 8 (the array has no W8A4 layout)")
    scheme: Scheme = kind(name=name, **{k: v for k, v in value.items() if k != "kind"})
    return scheme


def _decoder_options(path: Path, value: dict[str, Any]) -> dict[str, Any]:
    """Take the keys that concern no linear layer, ``softmax`` and ``activation``, and check them.

    Raises ConfigError in one line.
    """
    options: dict[str, Any] = {
        key: value.pop(key) for key in ("softmax", "activation") if key in value}
    if options.get("softmax", "int8") not in SOFTMAX:
        raise ConfigError(f"{path}: softmax must be {' or '.join(SOFTMAX)}, not "
                          f"{options['softmax']!r}")
    if "activation" in options:
        if not isinstance(options["activation"], str):
            raise ConfigError(f"{path}: activation must be a function's name or an expression of "
                              f"x, not {options['activation']!r}")
        try:
            function_of(options["activation"])
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
    return options


def load_scheme(name: str) -> SchemeMap:
    """Scheme or mix by name or YAML file; raises ConfigError in one line."""
    path = find("schemes", name)
    value = load_yaml(path)
    options = _decoder_options(path, value)
    kind = value.get("kind")
    if kind == "mix":
        check_keys(path, value, {"kind", "default", "layers"}, {"kind", "default"})
        layers = value.get("layers") or {}
        if not isinstance(layers, dict):
            raise ConfigError(f"{path}: layers must map linear layers to schemes")
        check_keys(path, layers, set(LINEARS), set())
        for part in [value["default"], *layers.values()]:
            if not isinstance(part, str) or load_yaml(find("schemes", part)).get("kind") == "mix":
                raise ConfigError(f"{path}: {part!r} must name a scheme that is not a mix")
        return SchemeMap(
            name=path.stem,
            default=load_scheme(value["default"]).default,
            layers={linear: load_scheme(part).default for linear, part in layers.items()},
            **options,
        )
    if kind not in KINDS:
        raise ConfigError(f"{path}: kind must be {', '.join(KINDS)} or mix, not {kind!r}")
    return SchemeMap(name=path.stem, default=_scheme(path, value, path.stem), **options)
