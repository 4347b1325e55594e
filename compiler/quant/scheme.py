"""Quantization schemes: how a linear layer is quantized and computed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compiler.activation_table import function_of
from compiler.quant.layer_keys import last_layer, layer_key, narrowest
from compiler.quant.token_rule import RULED, TokenRule, read_token_rule
from hw.errors import ConfigError
from hw.presets import check_keys, find, load_yaml

LINEARS = ("q", "k", "v", "o", "gate", "up", "down")
"""Linear layers of a decoder layer, by the names a mix uses."""
SOFTMAX = ("int8", "log2")
"""Widths of softmax numerators: 8-bit, or 4-bit powers of two."""
SPARSITY_MAX = 0.95
"""Largest part of the positions that can be dropped."""
ROTATIONS = ("none", "residual", "online")
"""Rotations against outliers: folded into the weights, or also one that the device computes."""


@dataclass(frozen=True, kw_only=True)
class Lut2dScheme:
    """Vector-quantized weights and activations, products from tables (LUT-LLM).

    vector_length: v; act_codes: c_a; weight_codes: c_w; group_columns: G; entry_bits: 8 or 4;
    metric: chebyshev or l2; gather: fetch only the chosen centroid's rows instead of streaming.
    method: how the weights' codebooks are found, a name of `compiler.quant.methods`.
    """

    name: str
    vector_length: int = 2
    act_codes: int = 64
    weight_codes: int = 16
    group_columns: int = 512
    entry_bits: int = 8
    metric: str = "chebyshev"
    gather: bool = False
    method: str = "kmeans"
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class RowgenScheme:
    """Vector-quantized weights, int8 activations; rows are computed from the codebook.

    method: how the codebooks are found, a name of `compiler.quant.methods`.
    skip_zeros: in decode, positions whose activations are all 0 are not read. sparsity: part of
    the positions, on the calibration text, whose small activations count as 0 and that are
    skipped too (`compiler.quant.sparsity`).
    """

    name: str
    vector_length: int = 2
    weight_codes: int = 16
    group_columns: int = 512
    method: str = "kmeans"
    skip_zeros: bool = False
    sparsity: float = 0.0
    seed: int = 0

    @property
    def skips(self) -> bool:
        """Positions are skipped."""
        return self.skip_zeros or self.sparsity > 0


@dataclass(frozen=True, kw_only=True)
class SimdScheme:
    """Integer weights in groups, integer activations per token (Agile-Quant).

    weight_bits, act_bits: 4 or 8; group: inputs that share a weight scale; trip_max: largest
    power-of-two channel exponent (0: none); native_blocks: run a GGUF tensor's own blocks of
    ``weight_bits`` as they are (their group of 32 then replaces ``group``). method: how other
    weights are rounded, a name of `compiler.quant.methods`; asymmetric: groups have a minimum.
    """

    name: str
    weight_bits: int = 4
    act_bits: int = 8
    group: int = 128
    trip_max: int = 4
    native_blocks: bool = True
    method: str = "clipped"
    asymmetric: bool = False
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

SWITCHES = ("gather", "native_blocks", "asymmetric", "skip_zeros")
METHODS: dict[str, tuple[str, ...]] = {
    "lut2d": ("kmeans", "gptvq", "pyramid"),
    "rowgen": ("kmeans", "gptvq", "pyramid"),
    "simd": ("plain", "clipped", "gptq"),
}
"""Weight methods of each kind (`compiler.quant.methods`)."""


@dataclass(frozen=True, kw_only=True)
class SchemeMap:
    """A scheme for every linear layer: one for all, or a mix.

    layers: by `compiler.quant.layer_keys`; the key that names the fewest layers counts.
    token_rule: tokens whose o, gate, up and down take int4 activations, or None.
    softmax: int8 or log2 (4-bit powers of two). activation: function that replaces the model's
    own, a name or an expression of x, or None. rotation: none, residual (residual and values) or
    online (also down's input, which the device rotates), see `compiler.rotation`. refine_epochs:
    passes of training over calibration text (`compiler.refine`), 0 without.
    """

    name: str
    default: Scheme
    layers: dict[str, Scheme] = field(default_factory=dict)
    token_rule: TokenRule | None = None
    softmax: str = "int8"
    activation: str | None = None
    rotation: str = "none"
    refine_epochs: int = 0

    def of(self, linear: str, layer: int) -> Scheme:
        """Scheme of a layer's linear (q, k, v, o, gate, up, down)."""
        return narrowest(self.layers, linear, layer, self.default)

    def every(self, linear: str) -> list[Scheme]:
        """Schemes that a linear may have in some layer."""
        keys = {layer_key(text): scheme for text, scheme in self.layers.items()}
        own = [scheme for key, scheme in keys.items() if key.linear == linear]
        whole = any(key.linear == linear and key.layers == math.inf for key in keys)
        return own if whole else [self.default, *own]

    def check_layers(self, count: int) -> None:
        """Raise ConfigError when the scheme names a layer that a model of ``count`` lacks."""
        if (last := last_layer(self.layers)) >= count:
            raise ConfigError(f"scheme {self.name} names layer {last}, the model has layers 0 to "
                              f"{count - 1}")


def _scheme(path: Path, value: dict[str, Any], name: str) -> Scheme:
    kind = KINDS[value["kind"]]
    known = set(kind.__dataclass_fields__) - {"name"} | {"kind"}
    check_keys(path, value, known, {"kind"})
    for key, given in value.items():
        if key in CHOICES and (given not in CHOICES[key] or isinstance(given, bool)):
            allowed = ", ".join(str(choice) for choice in CHOICES[key])
            raise ConfigError(f"{path}: {key} must be one of {allowed}, not {given!r}")
        if key in SWITCHES and not isinstance(given, bool):
            raise ConfigError(f"{path}: {key} must be true or false, not {given!r}")
        if key == "method" and given not in METHODS[value["kind"]]:
            raise ConfigError(f"{path}: method must be {', '.join(METHODS[value['kind']])}, "
                              f"not {given!r}")
        if key == "sparsity" and (
                isinstance(given, bool) or not isinstance(given, int | float)
                or not 0 <= given <= SPARSITY_MAX):
            raise ConfigError(f"{path}: sparsity must be from 0 to {SPARSITY_MAX}, not {given!r}")
        if key == "seed" and (not isinstance(given, int) or isinstance(given, bool) or given < 0):
            raise ConfigError(f"{path}: seed must be a whole number from 0, not {given!r}")
    if value.get("weight_bits") == 8 and value.get("act_bits", 8) == 4:
        raise ConfigError(f"{path}: int8 weights need act_bits 8 (the array has no W8A4 layout)")
    scheme: Scheme = kind(name=name, **{k: v for k, v in value.items() if k != "kind"})
    return scheme


def _decoder_options(path: Path, value: dict[str, Any]) -> dict[str, Any]:
    """Take the keys that concern no linear layer, as `SchemeMap` names them, and check them.

    Raises ConfigError in one line.
    """
    options: dict[str, Any] = {
        key: value.pop(key) for key in ("softmax", "activation", "rotation", "refine_epochs")
        if key in value}
    for key, choices in (("softmax", SOFTMAX), ("rotation", ROTATIONS)):
        if options.get(key, choices[0]) not in choices:
            raise ConfigError(f"{path}: {key} must be {' or '.join(choices)}, not "
                              f"{options[key]!r}")
    if "token_rule" in value:
        options["token_rule"] = read_token_rule(path, value.pop("token_rule"))
    epochs = options.get("refine_epochs", 0)
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 0:
        raise ConfigError(f"{path}: refine_epochs must be a whole number from 0, not {epochs!r}")
    if "activation" in options:
        if not isinstance(options["activation"], str):
            raise ConfigError(f"{path}: activation must be a function's name or an expression of "
                              f"x, not {options['activation']!r}")
        try:
            function_of(options["activation"])
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
    return options


def _ruled(path: Path, scheme: SchemeMap) -> SchemeMap:
    """The scheme; raises ConfigError where its token rule needs other formats."""
    if scheme.token_rule is None:
        return scheme
    for linear in RULED:
        if any(not isinstance(part, SimdScheme) or (part.weight_bits, part.act_bits) != (4, 8)
               for part in scheme.every(linear)):
            raise ConfigError(f"{path}: token_rule needs int4 weights and int8 activations in "
                              f"{linear} (kind simd, weight_bits 4, act_bits 8)")
    return scheme


def _linears_of(path: Path, layers: dict[str, Any]) -> dict[str, Any]:
    """The linears that the keys of a mix name; raises ConfigError for a key of no such form."""
    try:
        return {layer_key(str(text)).linear: part for text, part in layers.items()}
    except ValueError as error:
        raise ConfigError(f"{path}: layers: {error}") from None


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
        check_keys(path, _linears_of(path, layers), set(LINEARS), set())
        for part in [value["default"], *layers.values()]:
            if not isinstance(part, str) or load_yaml(find("schemes", part)).get("kind") == "mix":
                raise ConfigError(f"{path}: {part!r} must name a scheme that is not a mix")
        return _ruled(path, SchemeMap(
            name=path.stem,
            default=load_scheme(value["default"]).default,
            layers={str(key): load_scheme(part).default for key, part in layers.items()},
            **options,
        ))
    if kind not in KINDS:
        raise ConfigError(f"{path}: kind must be {', '.join(KINDS)} or mix, not {kind!r}")
    return _ruled(path, SchemeMap(
        name=path.stem, default=_scheme(path, value, path.stem), **options))
