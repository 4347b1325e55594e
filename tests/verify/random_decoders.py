"""Random small decoders with schemes, prompts and hardware: hypothesis strategies and JSON."""

from __future__ import annotations

import dataclasses
import json
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from compiler.activation_table import FUNCTIONS
from compiler.decoder.quantize import quantize_decoder
from compiler.decoder.quantized import QuantizedDecoder
from compiler.model import Architecture, Model, StoredTensor
from compiler.quant.scheme import KINDS, LINEARS, Scheme, SchemeMap
from compiler.quant.token_rule import TokenRule
from hw.config import HardwareConfig
from hw.errors import ConfigError
from hw.presets import load_hardware
from sim.records import MemoryModel
from tests.sim.shared_ports import SHARED

TINY = load_hardware("tiny")
ACTIVATIONS = tuple(FUNCTIONS)
UNGATED = tuple(name for name in ACTIVATIONS if name != "drelu")
CALIBRATION_TOKENS = 24


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model, how it is quantized and what it continues.

    seed: of weights, calibration text and prompt. spread: some channels are up to ``2**spread``
    times larger than others. extra: positions of the cache that no token reaches.
    memory: timing of the external memory in RTL.
    """

    architecture: Architecture
    scheme: SchemeMap
    hardware: HardwareConfig
    seed: int
    spread: int
    prompt_tokens: int
    new_tokens: int
    extra: int
    split_layers: bool
    memory: MemoryModel

    @property
    def capacity(self) -> int:
        """Positions of the cache."""
        return self.prompt_tokens + self.new_tokens - 1 + self.extra

    def prompt(self) -> list[int]:
        """Token ids."""
        rng = np.random.default_rng(self.seed)
        return [int(token) for token in
                rng.integers(0, self.architecture.vocabulary, self.prompt_tokens)]

    def model(self) -> Model:
        """Random weights of variance ``1 / inputs`` with channels of unlike size."""
        architecture = self.architecture
        tensors = {}
        for number, (name, shape) in enumerate(architecture.required().items()):
            rng = np.random.default_rng([self.seed, number])
            values = rng.standard_normal(shape).astype(np.float32)
            if name.endswith("norm.bias"):
                values *= 0.05
            elif name.endswith("norm"):
                values = 1 + np.float32(0.1) * values
            elif name.endswith(".bias"):
                values *= 0.1
            else:
                sizes = np.exp2(self.spread * rng.uniform(-1, 1, shape[0])).astype(np.float32)
                values *= sizes[:, None] * np.float32(shape[-1] ** -0.5)
            tensors[name] = StoredTensor(shape, values.__getitem__)
        return Model(architecture, tensors, architecture.name)

    def quantize(self) -> QuantizedDecoder:
        """The decoder's integers; raises LutripError where hardware or scheme cannot hold it."""
        rng = np.random.default_rng([self.seed, 1 << 20])
        calibration = [int(token) for token in
                       rng.integers(0, self.architecture.vocabulary, CALIBRATION_TOKENS)]
        return quantize_decoder(self.model(), self.scheme, self.hardware, calibration,
                                self.capacity)

    def to_json(self) -> str:
        """One line from which `from_json` makes the same case."""
        values = dataclasses.asdict(self)
        for scheme, made in ((values["scheme"]["default"], self.scheme.default),
                             *((values["scheme"]["layers"][name], layer)
                               for name, layer in self.scheme.layers.items())):
            scheme["kind"] = next(kind for kind, known in KINDS.items() if type(made) is known)
        return json.dumps(values, separators=(",", ":"))


def from_json(text: str) -> Case:
    """A case from its line."""
    values: dict[str, Any] = json.loads(text)

    def scheme(fields: dict[str, Any]) -> Scheme:
        made: Scheme = KINDS[fields.pop("kind")](**fields)
        return made

    chosen = values["scheme"]
    return Case(**values | {
        "architecture": Architecture(**values["architecture"]),
        "hardware": HardwareConfig(**values["hardware"]),
        "memory": MemoryModel(**values["memory"]),
        "scheme": SchemeMap(**chosen | {
            "default": scheme(chosen["default"]),
            "token_rule": chosen["token_rule"] and TokenRule(**chosen["token_rule"]),
            "layers": {name: scheme(fields) for name, fields in chosen["layers"].items()}}),
    })


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    """Small decoders of no family in particular; sizes are multiples of nothing."""
    position = draw(st.sampled_from(("rope", "learned", "alibi")))
    kv_heads = draw(st.integers(1, 3))
    sharing = 1 if position == "alibi" else draw(st.integers(1, 3))
    head_width = draw(st.integers(1, 20))
    rotary_width = 0
    if position == "rope":
        head_width = 2 * draw(st.integers(1, 20))
        rotary_width = draw(st.sampled_from((0, 2 * draw(st.integers(1, head_width // 2)))))
    gated = draw(st.booleans())
    norm = draw(st.sampled_from(("rms", "layer")))
    return Architecture(
        name="random", family="llama", layers=draw(st.integers(1, 6)),
        width=draw(st.integers(8, 90)), heads=kv_heads * sharing, kv_heads=kv_heads,
        head_width=head_width, ffn_width=draw(st.integers(8, 150)),
        vocabulary=draw(st.integers(5, 300)), norm_epsilon=draw(st.sampled_from((1e-6, 1e-5))),
        rope_base=draw(st.sampled_from((1e4, 5e5))), context=512,
        tied_embeddings=draw(st.booleans()), qkv_bias=draw(st.booleans()),
        qk_norm=draw(st.booleans()), norm=norm, position=position, gated=gated,
        activation=draw(st.sampled_from(ACTIVATIONS if gated else UNGATED)),
        rotary_width=rotary_width, position_offset=draw(st.sampled_from((0, 2))),
        linear_bias=draw(st.booleans()), window=draw(st.sampled_from((0, 0, 1, 3, 7))),
        embedding_norm=norm == "layer" and draw(st.booleans()))


def powers(first: int, last: int) -> tuple[int, ...]:
    """Powers of two from ``first`` to ``last``."""
    return tuple(1 << n for n in range(12) if first <= 1 << n <= last)


@st.composite
def linear_schemes(draw: st.DrawFn, hardware: HardwareConfig) -> Scheme:
    """A scheme that the hardware runs."""
    kinds = ["simd", "simd", "lut2d", *(["rowgen"] if hardware.rowgen else [])]
    kind = draw(st.sampled_from(kinds))
    if kind == "simd":
        weight_bits, act_bits = draw(st.sampled_from(((8, 8), (4, 8), (4, 4))))
        group = draw(st.sampled_from(powers(max(16, hardware.word_elements),
                                            min(256, hardware.group_max))))
        return KINDS[kind](name=f"w{weight_bits}a{act_bits}", weight_bits=weight_bits,
                           act_bits=act_bits, group=group, trip_max=draw(st.integers(0, 4)))
    common = {"vector_length": hardware.vector_length, "seed": draw(st.integers(0, 3)),
              "group_columns": draw(st.sampled_from(powers(max(16, hardware.lanes), 512)))}
    most = 64 if hardware.wide_indices else hardware.row_entries
    common["weight_codes"] = draw(st.sampled_from(powers(2, most)))
    if kind == "rowgen" and hardware.skips_positions:
        common |= {"skip_zeros": draw(st.booleans()),
                   "sparsity": draw(st.sampled_from((0.0, 0.0, 0.3, 0.8)))}
    if kind == "rowgen":
        return KINDS[kind](name=kind, **common)
    return KINDS[kind](
        name=kind, act_codes=draw(st.sampled_from(powers(2, hardware.act_codes_max))),
        gather=draw(st.booleans()), entry_bits=draw(st.sampled_from((8, 4))),
        metric=draw(st.sampled_from(("chebyshev", *(["l2"] if hardware.l2_search else [])))),
        **common)


@st.composite
def scheme_maps(draw: st.DrawFn, hardware: HardwareConfig) -> SchemeMap:
    """A scheme, or a mix of them; seldom a function that replaces the model's own."""
    layers = draw(st.dictionaries(st.sampled_from(LINEARS), linear_schemes(hardware), max_size=3))
    return SchemeMap(
        name="random", default=draw(linear_schemes(hardware)), layers=layers,
        softmax=draw(st.sampled_from(softmaxes(hardware))),
        activation=draw(st.sampled_from((None, None, None, "x / (1 + exp(-1.7 * x))"))))


@st.composite
def ruled(draw: st.DrawFn, scheme: SchemeMap, hardware: HardwareConfig) -> SchemeMap:
    """A scheme, seldom under a token rule: then only q, k and v keep what they had."""
    if not hardware.orders_tokens or draw(st.integers(0, 3)):
        return scheme
    int4 = draw(st.sampled_from((0.0, 0.3, 0.5, 1.0)))
    rule = TokenRule(
        int4=int4, pruned=draw(st.sampled_from((0.0, 0.25, 0.5))) if int4 < 1 else 0.0,
        from_layer=draw(st.integers(0, 2)), tokens=draw(st.integers(2, 8)))
    groups = powers(max(16, hardware.word_elements), min(256, hardware.group_max))
    default = KINDS["simd"](name="w4a8", weight_bits=4, act_bits=8,
                            group=draw(st.sampled_from(groups)),
                            trip_max=draw(st.integers(0, 4)))
    layers = {name: part for name, part in scheme.layers.items() if name in ("q", "k", "v")}
    return dataclasses.replace(scheme, default=default, layers=layers, token_rule=rule)


def memories() -> st.SearchStrategy[MemoryModel]:
    """Timings of the external memory, from ideal to slow."""
    return st.builds(
        MemoryModel, latency_cycles=st.sampled_from((2, 3, 17, 64, 150)),
        bytes_per_cycle=st.sampled_from((None, None, 1.7, 5.0, 8.0)),
        outstanding=st.sampled_from((1, 2, 3, 16, 64)))


def softmaxes(hardware: HardwareConfig) -> tuple[str, ...]:
    """Softmaxes that the hardware has."""
    return ("int8", "log2") if hardware.log2_softmax and hardware.value_bits == 8 else ("int8",)


def rotations(architecture: Architecture, hardware: HardwareConfig) -> tuple[str, ...]:
    """Rotations that a model with RMSNorm can have, the plain one twice."""
    online = hardware.rotates and architecture.ffn_width % 2 == 0
    return ("none", "none", "residual", *(["online", "online"] if online else []))


@st.composite
def cases(draw: st.DrawFn, pool: tuple[HardwareConfig, ...]) -> Case:
    """Everything of a run on one of some hardware sizes."""
    hardware = draw(st.sampled_from(pool))
    architecture = draw(architectures())
    scheme = draw(ruled(draw(scheme_maps(hardware)), hardware))
    if architecture.norm == "rms":
        scheme = dataclasses.replace(scheme, rotation=draw(st.sampled_from(rotations(
            architecture, hardware))))
    return Case(
        architecture=architecture, scheme=scheme, hardware=hardware,
        seed=draw(st.integers(0, 2**32 - 1)), spread=draw(st.sampled_from((0, 1, 4))),
        prompt_tokens=draw(st.integers(1, 21)), new_tokens=draw(st.integers(1, 4)),
        extra=draw(st.sampled_from((0, 0, 1, 30, 80))), split_layers=draw(st.booleans()),
        memory=draw(memories()))


def random_hardware(rng: random.Random) -> HardwareConfig:
    """Small hardware with a multiplier array, all sizes drawn."""
    while True:
        port_bits = rng.choice((64, 64, 128, 128, 256))
        try:
            return HardwareConfig(
                name="random", device=TINY.device, clock_mhz=100, port_bits=port_bits,
                weight_ports=rng.choice((1, 2, 4)), vector_length=rng.choice((1, 2, 4)),
                lanes=rng.choice((16, 32, 64)), chains=rng.choice((1, 2, 4)),
                chain_length=rng.choice((2, 4)), l2_search=rng.random() < 0.5,
                rowgen=rng.random() < 0.7, row_bits=rng.choice((8, 10, 12, 16)),
                sparse=rng.random() < 0.5, simd=True,
                simd_depth=rng.choice((2, 4, 8)),
                log2_softmax=rng.random() < 0.7, hadamard=True, token_order=True,
                group_max=rng.choice((32, 64, 128)),
                tokens_max=rng.randint(3, 12), accumulator_words=rng.randint(24, 90),
                vector_words=rng.randint(700, 2500), operand_words=rng.choice((256, 512)),
                table_words=rng.choice((32, 64, 128)), index_blocks=rng.randint(3, 12),
                activation_lanes=rng.choice((1, 2, 4)), read_fifo_words=rng.choice((16, 32, 64)),
                sum_bits=rng.choice((27, 32)), index_bits=rng.choice((3, 4, 8)),
                key_bits=rng.choice((4, 8)), value_bits=rng.choice((4, 8)))
        except ConfigError:
            continue


def hardware_pool(seed: int, size: int) -> tuple[HardwareConfig, ...]:
    """Two tiny sizes, the second with shared ports, and random ones; the same for a seed."""
    rng = random.Random(seed)
    made = [TINY, SHARED, *(random_hardware(rng) for _ in range(size - 2))]
    return tuple(dataclasses.replace(config, name=f"pool{number}")
                 for number, config in enumerate(made))
