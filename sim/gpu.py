"""GPUs as baselines for decoding with batch 1: a model with provenance, not a measurement.

A decoded token takes the longest of: its bytes at the bandwidth that a software stack reaches, its
operations at the rate it reaches, and the stack's floor (kernel launches and host). Energy is idle
power for that time plus an energy for each bit moved from memory, everything that the chip does
with it included, at most the board's limit. Files: `configs/gpus`; each value has its source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from compiler.model import Architecture
from hw.errors import ConfigError
from hw.presets import check_keys, find, load_yaml
from sim.energy_table import Bounds, TableValue, table_value
from sim.shape_counts import decode_bytes, prefill_operations

HARDWARE = ("bandwidth", "rate", "idle", "dynamic_bit", "board")
STACK = ("bandwidth_share", "rate_share", "floor_16", "floor_8", "floor_4")
TUNED, REPORTED = "tuned", "reported"
STACKS = (TUNED, REPORTED)
WEIGHT_BITS = (16, 8, 4)


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU with one software stack. Keys of ``values`` are `HARDWARE` and `STACK`.

    Floors are seconds of a decoded token of a model with ``floor_layers`` layers.
    """

    name: str
    title: str
    stack: str
    floor_layers: int
    values: Mapping[str, TableValue]

    def __getitem__(self, key: str) -> Bounds:
        return self.values[key].bounds


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds and joules of a pass; limit: what bounds its time."""

    seconds: Bounds
    joules: Bounds
    limit: str


def stacks(name: str) -> list[str]:
    """Software stacks that a GPU's file has; raises ConfigError."""
    path = find("gpus", name)
    return [stack for stack in STACKS if stack in load_yaml(path).get("stacks", {})]


def load_gpu(name: str, stack: str = TUNED) -> Gpu:
    """GPU by name or file with one of its software stacks; raises ConfigError in one line."""
    path = find("gpus", name)
    data = load_yaml(path)
    keys = {"name", "title", "sources", "hardware", "floor_layers", "stacks"}
    check_keys(path, data, keys, keys)
    check_keys(f"{path}: hardware", data["hardware"], set(HARDWARE), set(HARDWARE))
    if stack not in data["stacks"]:
        raise ConfigError(f"{path}: no stack {stack!r}; known: {', '.join(data['stacks'])}")
    own = data["stacks"][stack]
    check_keys(f"{path}: {stack}", own, set(STACK), set(STACK))
    return Gpu(
        name=data["name"], title=data["title"], stack=stack, floor_layers=data["floor_layers"],
        values={key: table_value(f"{path}: {key}", record, data["sources"])
                for key, record in {**data["hardware"], **own}.items()},
    )


def _longest(times: Mapping[str, Bounds]) -> tuple[str, Bounds]:
    limit = max(times, key=lambda name: times[name].value)
    ends = [max(getattr(time, end) for time in times.values()) for end in ("lower", "upper")]
    return limit, Bounds(times[limit].value, *ends)


def _cost(gpu: Gpu, times: Mapping[str, Bounds], moved: float) -> Cost:
    limit, seconds = _longest(times)
    dynamic = gpu["dynamic_bit"] * (8 * moved)
    if limit == "operations":
        # Nothing is known of an operation's energy: a chip that only computes runs at its limit.
        left = gpu["board"].value - gpu["idle"].value
        dynamic = gpu["rate_share"] * left * seconds
    joules = gpu["idle"] * seconds + dynamic
    most = gpu["board"] * seconds
    return Cost(seconds=seconds, limit=limit, joules=Bounds(*(
        min(getattr(joules, end), getattr(most, end)) for end in ("value", "lower", "upper"))))


def _check_bits(weight_bits: int) -> None:
    if weight_bits not in WEIGHT_BITS:
        raise ValueError(f"weight_bits must be 16, 8 or 4, not {weight_bits}")


def decode(gpu: Gpu, model: Architecture, weight_bits: int, keys: int) -> Cost:
    """One token of batch 1; the head and the cache have 16 bits whatever the weights have."""
    _check_bits(weight_bits)
    moved = decode_bytes(model, weight_bits, keys)
    floor = gpu[f"floor_{weight_bits}"] * (model.layers / gpu.floor_layers)
    return _cost(gpu, {
        "memory": Bounds(moved, moved, moved) / (gpu["bandwidth"] * gpu["bandwidth_share"]),
        "floor": floor}, moved)


def prefill(gpu: Gpu, model: Architecture, weight_bits: int, tokens: int) -> Cost:
    """A prompt, computed in 16 bits (weights of 4 and 8 bits are widened on the way)."""
    _check_bits(weight_bits)
    moved = decode_bytes(model, weight_bits, tokens)
    work = prefill_operations(model, tokens)
    return _cost(gpu, {
        "memory": Bounds(moved, moved, moved) / (gpu["bandwidth"] * gpu["bandwidth_share"]),
        "operations": Bounds(work, work, work) / (gpu["rate"] * gpu["rate_share"]),
        "floor": gpu[f"floor_{weight_bits}"] * (model.layers / gpu.floor_layers)}, moved)
