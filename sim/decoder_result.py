"""What a simulated decoder build says: tokens, cycles, rates and energy, in all and by pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hw.config import HardwareConfig
from sim.activity import Changes, toggle_rates
from sim.costs import Costs
from sim.counters import lookups, port_bytes, products, weight_bytes
from sim.counters import total as counter_total
from sim.decoder import DecoderRun
from sim.passes import DECODE, KINDS, PREFILL, Pass, PassRecord
from sim.records import MemoryModel
from sim.values import (
    energy_values,
    engine_values,
    memory_values,
    overlap_values,
    port_values,
    roofline_values,
)

Ran = Sequence[tuple[Pass, PassRecord]]


def positions(passes: Sequence[Pass]) -> int:
    """Positions of the model that passes cover, however many passes share them."""
    return sum({item.first: item.tokens for item in passes}.values())


def phase_values(ran: Ran, costs: Costs) -> dict[str, Any] | None:
    """Rates of the simulated passes of one kind, None without any."""
    if not ran:
        return None
    counters = counter_total(record.counters for _, record in ran)
    joules = costs.energy(counters)
    tokens = positions([item for item, _ in ran])
    wall_s = sum(record.wall_s for _, record in ran)
    return {
        "passes": len(ran), "tokens": tokens, "cycles": counters["cycles"],
        "latency_s": joules.seconds, "tokens_per_s": tokens / joules.seconds,
        "energy_j": joules.total.value, "tokens_per_j": tokens / joules.total.value,
        "wall_s": wall_s, "wall_s_per_token": wall_s / tokens,
        "weight_bytes": weight_bytes(counters, costs.config),
    }


def pass_values(
    passes: Sequence[Pass], run: DecoderRun, costs: Costs
) -> list[dict[str, Any]]:
    """One entry for each pass; those left to golden have no cycles."""
    rows = []
    for item in passes:
        row: dict[str, Any] = {
            "name": item.name, "first": item.first, "tokens": item.tokens, "layer": item.layer,
            "simulated": item.index in run.records, "token": run.tokens.get(item.index),
        }
        if record := run.records.get(item.index):
            joules = costs.energy(record.counters)
            overlap = overlap_values(record.activity, record.counters)
            row |= {
                "bit_exact": record.bit_exact, "cycles": record.cycles,
                "latency_s": joules.seconds, "energy_j": joules.total.value,
                "wall_s": record.wall_s, "beats": sum(record.beats.values()),
                "weight_bytes": weight_bytes(record.counters, costs.config),
                "others_busy": overlap["others_busy"],
                "weights_arriving": overlap["weights_arriving"],
            }
        rows.append(row)
    return rows


def bits_per_weight(
    metadata: Mapping[str, Any], ran: Ran, config: HardwareConfig,
    sample_layers: Sequence[int] | None,
) -> dict[str, float]:
    """Bits that decode passes read for each weight, keys and values included; 0 without any."""
    decode = [(item, record) for item, record in ran if item.kind == DECODE]
    if not decode or sample_layers is not None:
        return {"weights": 0.0, "centroids": 0.0}
    counters = counter_total(record.counters for _, record in decode)
    shapes = [linear["shape"] for linear in metadata["linears"].values()]
    weights = sum(rows * columns for rows, columns in shapes)
    weights *= positions([item for item, _ in decode])
    return {"weights": weight_bytes(counters, config) * 8 / weights,
            "centroids": port_bytes(counters, config)["centroid"] * 8 / weights}


def scope(sample_layers: Sequence[int] | None) -> str:
    """What ran in RTL, in words."""
    if sample_layers is None:
        return "every pass ran in RTL and every write was compared with golden"
    named = ", ".join(f"layer {layer}" for layer in sorted(set(sample_layers)))
    return (f"{named} ran in RTL, every write compared with golden; the other layers, "
            "embedding and head are golden's")


def decoder_values(
    path: Path, metadata: Mapping[str, Any], config: HardwareConfig, run: DecoderRun,
    memory: MemoryModel, sample_layers: Sequence[int] | None,
    changes: Mapping[str, Changes] | None = None,
) -> dict[str, Any]:
    """Values of the result; rates and energy are those of the simulated passes.

    changes: of the circuit's nets in this run, where they were counted.
    """
    ran = [(item, run.records[item.index]) for item in run.passes if item.index in run.records]
    records = [record for _, record in ran]
    counters = counter_total(record.counters for record in records)
    costs = Costs(config, None if changes is None else toggle_rates(changes, counters))
    activity = counter_total(record.activity for record in records)
    joules = costs.energy(counters)
    phases = {kind: phase_values([pair for pair in ran if pair[0].kind == kind], costs)
              for kind in KINDS}
    token_ids = [run.tokens[item.index] for item in run.passes
                 if item.token_slot is not None and item.index in run.tokens]
    tokens = len(token_ids) if sample_layers is None else 0
    tokens = tokens or positions([item for item, _ in ran])
    wall_s = sum(record.wall_s for record in records)
    failed = run.failed
    looked_up, multiplied = lookups(counters, config), products(counters, config)
    operations = multiplied + looked_up * config.vector_length
    decoded = phases[DECODE]
    counts = costs.resources.rounded()
    beats = counter_total(record.beats for record in records)
    return {
        "title": f"{metadata['architecture']}, {metadata['scheme']} on {config.name}",
        "kind": "decoder",
        "model": metadata["model"], "scheme": metadata["scheme"],
        "hardware": metadata["hardware"], "configuration_hash": config.digest(),
        "layers": "{}:{}".format(*metadata["layers"]),
        "parts": ["decoder"], "instructions": sum(record.instructions for record in records),
        "simulated": True, "simulated_layers": sample_layers, "scope": scope(sample_layers),
        "simulator": records[-1].simulator,
        "status": records[-1].status if failed is None else failed.status,
        "errors": [] if failed is None else list(failed.errors),
        "bit_exact": run.complete,
        "first_mismatch": None if failed is None else failed.first_mismatch,
        "failed_pass": None if failed is None else failed.name,
        "beats": beats,
        "tokens": tokens, "token_ids": token_ids,
        "prompt_tokens": metadata["prompt_tokens"], "new_tokens": metadata["new_tokens"],
        "capacity": metadata["capacity"],
        "cycles": counters["cycles"], "clock_mhz": config.clock_mhz, "latency_s": joules.seconds,
        "tokens_per_s": tokens / joules.seconds, "energy_j": joules.total.value,
        "tokens_per_j": tokens / joules.total.value,
        PREFILL: phases[PREFILL], DECODE: decoded,
        "passes": pass_values(run.passes, run, costs),
        "resumed_passes": run.resumed,
        "overlap": overlap_values(activity, counters),
        "energy": energy_values(joules, costs.likely(counters), costs.toggles),
        "engines": engine_values(counters),
        "ports": port_values(counters, config, memory), "counters": counters,
        "memory": memory_values(memory, config), "accuracy": metadata.get("accuracy", []),
        "roofline": roofline_values(operations, counters, config),
        **counts, "resources": counts,
        "device": costs.device.name, "fits": costs.device.fits(costs.resources),
        "bits_per_weight": bits_per_weight(metadata, ran, config, sample_layers),
        "lookups": looked_up, "products": multiplied,
        "wall_s": wall_s, "golden_wall_s": run.golden_s,
        "cycles_per_wall_s": counters["cycles"] / max(wall_s, 1e-9),
        "lookups_per_wall_s": looked_up / max(wall_s, 1e-9),
        "products_per_wall_s": multiplied / max(wall_s, 1e-9),
        "memory_map": [
            {"section": part["name"], "address": part["address"], "bytes": part["bytes"]}
            for part in metadata["memory_map"]
        ],
        "residual": metadata.get("residual"), "folder": path.name,
    }
