"""Energy of a run: events x table + clock + static power.

Counters are turned into physical events by `EVENTS`, one line for each cause. Events of logic that
no counter sees (control, queues) are in the clock's share only, which all flip-flops have.

Scopes: the total is that of the device with its HBM ("on-chip"); `Energy.card` adds the board.
Bounds of causes add up linearly, as if every table value were off the same way: the widest range.
`sim.energy_range` has the likely one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hw.config import EXACT_ROW_BITS, HardwareConfig
from hw.golden.hadamard import LENGTH_BITS_MAX
from hw.resource_blocks import mux_luts
from hw.resources import URAM_DEPTH, Resources
from sim.energy_table import Bounds, EnergyTable

COMPUTE, ON_CHIP, OFF_CHIP = "compute", "on-chip memory", "off-chip memory"
CLOCK, STATIC = "clock", "static"
GROUPS = (COMPUTE, ON_CHIP, OFF_CHIP, CLOCK, STATIC)
URAM_BITS, BRAM_BITS = 72, 36
ROUNDING_LUTS = 50
"""Shift, rounding and saturation of an entry (`hw.units.row_rounding`)."""
PACKED_PRODUCTS = {"simd_steps_w4a4": 4, "simd_steps_w4a8": 2, "simd_steps_w8a8": 2}
"""Products of one multiplier (AMD WP486 and WP521)."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """What one count of a counter does.

    counter: its name, or a prefix ending in ``_`` of several. cause: engine or memory it is charged
    to. luts, ffs: logic cells and flip-flops whose data changes (times the data toggle rate).
    multiplies: multiplier operations. reads, writes: bits of on-chip memory, whose depth decides
    between block RAM and UltraRAM. offchip: bits of external memory.
    """

    counter: str
    cause: str
    group: str
    luts: Callable[[HardwareConfig], float] | None = None
    ffs: Callable[[HardwareConfig], float] | None = None
    multiplies: Callable[[HardwareConfig], float] | None = None
    reads: Callable[[HardwareConfig], float] | None = None
    writes: Callable[[HardwareConfig], float] | None = None
    depth: Callable[[HardwareConfig], int] = lambda config: 0
    offchip: Callable[[HardwareConfig], float] | None = None


def _distances(c: HardwareConfig) -> int:
    return c.positions * c.act_codes_max * c.vector_length


def _simd_event(counter: str, tokens: int) -> Event:
    """A multiplier array step: packed products and one lane sum for each column and token."""
    return Event(
        counter=counter, cause="linear (multiplier array)", group=COMPUTE,
        multiplies=lambda c: tokens * c.lanes * c.simd_depth / PACKED_PRODUCTS[counter],
        luts=lambda c: tokens * 24 * c.lanes, ffs=lambda c: tokens * 24 * c.lanes,
    )


EVENTS: tuple[Event, ...] = (
    # Distance: 17-bit subtract, absolute value, maximum for each element; compare for each unit.
    Event(counter="search_steps", cause="search", group=COMPUTE,
          luts=lambda c: 3 * 17 * _distances(c) + 2 * 17 * c.positions * c.act_codes_max,
          ffs=lambda c: 17 * _distances(c)),
    Event(counter="centroid_words", cause="search", group=COMPUTE, ffs=lambda c: c.port_bits),
    Event(counter="quantize_steps", cause="quantize", group=COMPUTE,
          multiplies=lambda c: 2 * c.word_elements, luts=lambda c: 160 * c.word_elements,
          ffs=lambda c: 120 * c.word_elements),
    # Copy multiplexers, then the cascaded adders, in every position lane.
    Event(counter="lut_steps", cause="linear (lookup)", group=COMPUTE,
          luts=lambda c: c.positions * c.lanes * (
              c.entry_bits * mux_luts(c.row_entries, "versal") + c.field_bits),
          ffs=lambda c: c.positions * c.lanes * (c.entry_bits + c.field_bits)),
    Event(counter="lut_steps", cause="index buffers", group=ON_CHIP,
          reads=lambda c: c.positions * c.lanes * c.index_low_bits),
    Event(counter="rowgen_rows", cause="linear (row generator)", group=COMPUTE,
          multiplies=lambda c: c.row_entries * c.vector_length / 2,
          luts=lambda c: c.row_entries * (20 * c.vector_length + ROUNDING_LUTS * c.rounds_rows),
          ffs=lambda c: c.row_entries * (20 * c.vector_length + EXACT_ROW_BITS * c.rounds_rows)),
    Event(counter="row_reads", cause="table buffers", group=ON_CHIP,
          reads=lambda c: 8 * c.row_entries),
    Event(counter="table_words", cause="table buffers", group=ON_CHIP,
          writes=lambda c: c.port_bits),
    _simd_event("simd_steps_w4a4", 2),
    _simd_event("simd_steps_w4a8", 1),
    _simd_event("simd_steps_w8a8", 1),
    # For each product a shifter of 22 bits with 15 distances (2 look-up tables a bit) and an adder.
    Event(counter="simd_steps_w8l4", cause="linear (multiplier array)", group=COMPUTE,
          luts=lambda c: 70 * c.lanes * c.simd_depth, ffs=lambda c: 30 * c.lanes),
    Event(counter="scaler_steps", cause="linear (multiplier array)", group=COMPUTE,
          multiplies=lambda c: 2 * c.lanes, luts=lambda c: 90 * c.lanes,
          ffs=lambda c: 120 * c.lanes),
    Event(counter="weight_words", cause="weight buffers", group=ON_CHIP,
          writes=lambda c: c.port_bits, reads=lambda c: c.port_bits),
    Event(counter="accumulator_steps", cause="accumulator", group=ON_CHIP,
          reads=lambda c: c.sum_bits * c.lanes, writes=lambda c: c.sum_bits * c.lanes,
          depth=lambda c: c.accumulator_words),
    Event(counter="drain_steps", cause="drain", group=COMPUTE,
          multiplies=lambda c: 6 * c.word_elements, luts=lambda c: 200 * c.word_elements,
          ffs=lambda c: 250 * c.word_elements),
    Event(counter="drain_steps", cause="accumulator", group=ON_CHIP,
          reads=lambda c: c.sum_bits * c.lanes, depth=lambda c: c.accumulator_words),
    Event(counter="activate_steps", cause="activate", group=COMPUTE,
          multiplies=lambda c: 2 * c.activation_lanes, luts=lambda c: 80 * c.activation_lanes,
          ffs=lambda c: 120 * c.activation_lanes),
    Event(counter="activate_steps", cause="function tables", group=ON_CHIP,
          reads=lambda c: 32 * c.activation_lanes),
    # Shift, square, two products with the reciprocal root, one with the weight; a word is read in
    # several passes.
    Event(counter="norm_steps", cause="norm", group=COMPUTE,
          multiplies=lambda c: 4 * c.word_elements, luts=lambda c: 260 * c.word_elements,
          ffs=lambda c: 220 * c.word_elements),
    Event(counter="rope_steps", cause="norm", group=COMPUTE,
          multiplies=lambda c: 2 * c.word_elements, luts=lambda c: 60 * c.word_elements,
          ffs=lambda c: 80 * c.word_elements),
    # An adder and a subtracter for each bit of the longest block, of growing width.
    Event(counter="hadamard_steps", cause="norm", group=COMPUTE,
          luts=lambda c: 2 * 20 * LENGTH_BITS_MAX * c.word_elements,
          ffs=lambda c: 21 * LENGTH_BITS_MAX * c.word_elements),
    # ALiBi product, subtraction, exponential (256 x 15 bits in look-up tables), shift, sum.
    Event(counter="softmax_steps", cause="softmax", group=COMPUTE,
          multiplies=lambda c: c.word_elements, luts=lambda c: 220 * c.word_elements,
          ffs=lambda c: 120 * c.word_elements),
    Event(counter="gather_steps", cause="gather", group=COMPUTE,
          luts=lambda c: 60 * c.word_elements, ffs=lambda c: 48 * c.word_elements),
    Event(counter="append_steps", cause="append", group=COMPUTE,
          luts=lambda c: 40 * c.word_elements, ffs=lambda c: 24 * c.word_elements),
    Event(counter="vector_reads", cause="vector memory", group=ON_CHIP,
          reads=lambda c: c.port_bits, depth=lambda c: c.vector_words),
    Event(counter="vector_writes", cause="vector memory", group=ON_CHIP,
          writes=lambda c: c.port_bits, depth=lambda c: c.vector_words),
    Event(counter="operand_reads", cause="operand store", group=ON_CHIP,
          reads=lambda c: 8 * c.word_elements),
    Event(counter="operand_writes", cause="operand store", group=ON_CHIP,
          writes=lambda c: 8 * c.word_elements),
    Event(counter="read_words_", cause="reads", group=OFF_CHIP, offchip=lambda c: c.port_bits),
    Event(counter="read_words_", cause="read buffers", group=ON_CHIP,
          reads=lambda c: c.port_bits, writes=lambda c: c.port_bits),
    Event(counter="write_words", cause="writes", group=OFF_CHIP, offchip=lambda c: c.port_bits),
)


@dataclass(frozen=True, kw_only=True)
class EnergyItem:
    """Joules of one cause, with bounds."""

    group: str
    cause: str
    joules: Bounds


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Energy of a run by cause, and the time that it covers.

    card: the same run with what the board takes besides.
    """

    table: str
    device: str
    seconds: float
    items: tuple[EnergyItem, ...]
    card: Bounds

    @property
    def total(self) -> Bounds:
        """All joules."""
        return sum((item.joules for item in self.items), Bounds(0, 0, 0))

    def groups(self) -> dict[str, Bounds]:
        """Joules of each group of `GROUPS`."""
        return {
            group: sum((item.joules for item in self.items if item.group == group),
                       Bounds(0, 0, 0))
            for group in GROUPS
        }


def _memory(table: EnergyTable, bits: float, deep: bool, kind: str) -> Bounds:
    """One access of ``bits``; kind is read or write."""
    if deep:
        toggles = table["data_toggle"] * table[f"uram_{kind}_bit"]
        return table[f"uram_{kind}"] * (bits / URAM_BITS) + toggles * bits
    return table[f"bram_{kind}_36"] * (bits / BRAM_BITS)


def event_energy(
    event: Event, table: EnergyTable, config: HardwareConfig, toggle: float | None = None
) -> Bounds:
    """Joules of one count; toggle: measured changes of a bit, None for the table's."""
    deep = event.depth(config) >= URAM_DEPTH
    total = Bounds(0, 0, 0)
    changes = table["data_toggle"] if toggle is None else Bounds(toggle, toggle, toggle)
    for count, key in ((event.luts, "lut_toggle"), (event.ffs, "ff_toggle")):
        if count is not None:
            total += table[key] * changes * count(config)
    if event.multiplies is not None:
        total += table["dsp_multiply"] * event.multiplies(config)
    if event.reads is not None:
        total += _memory(table, event.reads(config), deep, "read")
    if event.writes is not None:
        total += _memory(table, event.writes(config), deep, "write")
    if event.offchip is not None:
        total += table["offchip_bit"] * event.offchip(config)
    return total


def engine_of(counter: str) -> str:
    """Name of the engine in the circuit whose logic a counter of `EVENTS` stands for."""
    prefix = counter.partition("_")[0]
    return {"centroid": "search", "rowgen": "lut", "scaler": "simd"}.get(prefix, prefix)


def energy(
    counters: Mapping[str, int], config: HardwareConfig, resources: Resources, table: EnergyTable,
    toggles: Mapping[str, float] | None = None,
) -> Energy:
    """Energy of a run from its counters; the circuit's size sets the clock's share.

    toggles: changes of a bit in a step, by engine, measured (`sim.activity`); engines that are
    not in it have the table's ``data_toggle``.
    Raises ValueError when a counter that `EVENTS` needs is missing.
    """
    measured = toggles or {}
    seconds = counters["cycles"] / (config.clock_mhz * 1e6)
    causes: dict[tuple[str, str], Bounds] = {}
    for event in EVENTS:
        names = [name for name in counters if name == event.counter
                 or (event.counter.endswith("_") and name.startswith(event.counter))]
        if not names:
            raise ValueError(f"no counter {event.counter}")
        each = event_energy(event, table, config, measured.get(engine_of(event.counter)))
        joules = each * sum(counters[name] for name in names)
        key = (event.group, event.cause)
        causes[key] = causes.get(key, Bounds(0, 0, 0)) + joules
    loads = table["clock_loads_per_ff"] * resources.ff * table["clock_enable"]
    causes[CLOCK, "clock tree"] = table["clock_load_cycle"] * loads * counters["cycles"]
    causes[STATIC, "device leakage"] = table["static"] * seconds
    causes[STATIC, f"{table.memory} background"] = table["memory_background"] * seconds
    causes[STATIC, "processor"] = table["processor"] * seconds
    on_chip = sum(causes.values(), Bounds(0, 0, 0))
    return Energy(
        table=table.name, device=table.device, seconds=seconds,
        items=tuple(EnergyItem(group=group, cause=cause, joules=joules)
                    for (group, cause), joules in causes.items()),
        card=on_chip / table["card_efficiency"] + table["card_auxiliary"] * seconds,
    )
