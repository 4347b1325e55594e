"""Multiplier array engine: grouped low-bit linear layers on packed multipliers."""

from __future__ import annotations

from functools import reduce
from operator import and_
from typing import Any

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.interfaces import Accumulate, MemoryRead, Task
from hw.isa import Opcode, SimdMode
from hw.units import group_scaler, packed_dot, simd_operands
from hw.units.delay import delayed
from hw.units.group_scaler import GroupScaler
from hw.units.packed_dot import ALPHA_BITS, PackedDot
from hw.units.packed_multiplier import int8_weights
from hw.units.simd_operands import SimdOperands
from hw.units.simd_sequencer import SimdSequencer
from hw.units.weight_buffer import WeightBuffer
from hw.verilog import module

DOT_CYCLES = simd_operands.LATENCY + packed_dot.LATENCY
"""Cycles from the last step of a group to its dot products."""
WRITE_CYCLES = 3
"""Cycles that the accumulator may take until a read sees a sum."""
STEP_EVENTS = {mode: f"simd_steps_{mode.name.lower()}" for mode in SimdMode}
DRAIN_CYCLES = DOT_CYCLES + 1 + group_scaler.LATENCY + WRITE_CYCLES


def events_layout() -> data.StructLayout:
    """What happens in a cycle, for the energy counters."""
    return data.StructLayout({
        **dict.fromkeys(STEP_EVENTS.values(), 1), "scaler_steps": 1, "weight_words": 8,
    })


class SimdEngine(wiring.Component):
    """SIMD instructions: ``lanes`` columns x ``simd_depth`` inputs each cycle, as in
    `hw.golden.multiplier`.

    Weights stream in once, group by group, while the group before is in use; `WeightPrefetch` asks
    for them. The task completes `DRAIN_CYCLES` after its last step.

    Parameters
    ----------
    config : HardwareConfig; without log2_softmax an instruction must not ask for W8L4

    Members
    -------
    task : In(Task(SIMD))
    words : In(stream of port words) of every port of `lane_ports`; taken only by the running task
    operand, alpha : Out(MemoryRead)
    sums : Out(Accumulate)
    events : Out(`events_layout`)
    """

    task: stream.Interface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "task": In(Task(Opcode.SIMD)),
            "words": In(stream.Signature(config.port_bits)).array(config.lane_ports),
            "operand": Out(MemoryRead(16, config.word_elements * 8)),
            "alpha": Out(MemoryRead(12, ALPHA_BITS * config.chunks_per_word)),
            "sums": Out(Accumulate(config)),
            "events": Out(events_layout()),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, task = self.config, self.task.payload
        m.submodules.sequencer = sequencer = SimdSequencer(config)
        m.submodules.operands = operands = SimdOperands(config)
        wiring.connect(m, operands.operand, wiring.flipped(self.operand))
        wiring.connect(m, operands.alpha, wiring.flipped(self.alpha))
        step, start = sequencer.step, Signal()
        m.d.comb += [
            sequencer.task.eq(task),
            operands.mode.eq(task.mode),
            operands.plain.eq(task.plain),
            operands.step.eq(step),
        ]
        self._control(m, start, sequencer.run, sequencer.done)

        result = delayed(m, step.result, DOT_CYCLES - 1, "result")
        slot_en = delayed(m, step.result.valid, DOT_CYCLES - 1, "slot_en", reset_less=False)
        buffers = self._buffers(m, start, step, slot_en, result.slot)
        m.d.comb += sequencer.full.eq(reduce(and_, (buffer.full for buffer in buffers)))

        self._scaled(m, buffers, operands, delayed(m, result, 1, "scaled"),
                     delayed(m, slot_en, 1, "even", reset_less=False))
        transfers = Cat(words.valid & words.ready for words in self.words)
        m.d.comb += [
            *(self.events[name].eq(step.valid & (task.mode == mode))
              for mode, name in STEP_EVENTS.items()),
            self.events.weight_words.eq(sum(transfers)),
        ]
        return m

    def _control(self, m: Module, start: Signal, run: Signal, done: Signal) -> None:
        """Start, wait for the pipeline to empty, complete."""
        wait = Signal(range(DRAIN_CYCLES))
        with m.FSM():
            with m.State("IDLE"), m.If(self.task.valid):
                m.d.comb += start.eq(1)
                m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += run.eq(1)
                m.d.sync += wait.eq(DRAIN_CYCLES - 1)
                with m.If(done):
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.comb += run.eq(1)
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.next = "COMPLETE"
            with m.State("COMPLETE"):
                m.d.comb += self.task.ready.eq(1)
                m.next = "IDLE"

    def _buffers(
        self, m: Module, start: Any, step: Any, slot_en: Any, slot: Any
    ) -> list[Any]:
        """Weight buffers of the ports; the weights of a step come with its activations."""
        config, task = self.config, self.task.payload
        read = delayed(m, step.valid, 1, "read", reset_less=False)
        half = delayed(m, step.half, 1, "half")
        chunk = delayed(m, step.chunk, 1, "chunk")
        release = delayed(m, step.result.valid & step.release, 1, "release", reset_less=False)
        buffers = []
        for q, words in enumerate(self.words):
            buffer = module("weight_buffer", WeightBuffer(config))
            m.submodules[f"buffer{q}"] = buffer
            wiring.connect(m, wiring.flipped(words), buffer.i)
            m.d.comb += [
                buffer.start.eq(start),
                buffer.int8.eq(int8_weights(task.mode)),
                buffer.rounds.eq(task.rounds),
                buffer.group_rounds.eq(task.group_rounds),
                buffer.blocks.eq(task.blocks),
                buffer.has_min.eq(task.has_min),
                buffer.last_chunk.eq(task.group_rounds * config.chunks_per_word - 1),
                buffer.release.eq(release),
                buffer.release_half.eq(half),
                buffer.weight_en.eq(read),
                buffer.weight_half.eq(half),
                buffer.weight_chunk.eq(chunk),
                buffer.scale_en.eq(slot_en),
                buffer.slot.eq(slot),
            ]
            buffers.append(buffer)
        return buffers

    def _dot(self, m: Module, name: str, operands: Any, weights: list[tuple[Any, Any]]) -> Any:
        """Packed dot products of two columns, each with its weights as bytes and as nibbles."""
        dot = module("packed_dot", PackedDot(self.config))
        m.submodules[name] = dot
        m.d.comb += [dot.mode.eq(self.task.payload.mode), dot.step.eq(operands.dot_step)]
        for column, (as_bytes, as_nibbles) in enumerate(weights):
            m.d.comb += [dot.bytes[column].eq(as_bytes), dot.nibbles[column].eq(as_nibbles)]
        for mine, activation in zip(dot.activations, operands.activations, strict=True):
            m.d.comb += mine.eq(activation)
        if self.config.log2_softmax:
            m.d.comb += dot.upper.eq(operands.upper)
        return dot

    def _scaled(self, m: Module, buffers: Any, operands: Any, result: Any, even: Any) -> None:
        """Dot products of all columns, the mass, and the scalers behind them."""
        config, task = self.config, self.task.payload
        odd = delayed(m, even & result.pair, 1, "odd", reset_less=False)
        # The sum of the activations is their dot product with weights that are all 1.
        ones = [
            (int("01" * config.simd_depth, 16), int("1" * config.simd_depth, 16)), (0, 0)
        ]
        mass = self._dot(m, "mass", operands, ones)
        token_mass = Signal(mass.dots[0].shape())
        chosen_mass = Mux(odd, mass.odd_dots[0], mass.dots[0])
        m.d.comb += token_mass.eq(Mux(task.has_min, chosen_mass, 0))

        for pair in range(config.lanes // 2):
            q, column = divmod(2 * pair, config.port_columns)
            buffer = buffers[q]
            columns = range(column, column + 2)
            dot = self._dot(
                m, f"dot{pair}", operands, [(buffer.bytes[c], buffer.nibbles[c]) for c in columns]
            )
            for c in range(2):
                scaler = module("group_scaler", GroupScaler(config))
                m.submodules[f"scaler{2 * pair + c}"] = scaler
                m.d.comb += [
                    scaler.valid.eq(even | odd),
                    scaler.odd.eq(odd),
                    scaler.dot.eq(dot.dots[c]),
                    scaler.odd_dot.eq(dot.odd_dots[c]),
                    scaler.mass.eq(token_mass),
                    scaler.scale.eq(buffer.scales[column + c]),
                    scaler.minimum.eq(buffer.minima[column + c]),
                    scaler.shift.eq(task.shift),
                    self.sums.sums[2 * pair + c].eq(scaler.sum),
                ]

        word = delayed(m, result, group_scaler.LATENCY, "word")
        other = delayed(m, result, group_scaler.LATENCY + 1, "other")
        first_token = delayed(m, even, group_scaler.LATENCY, "first_token", reset_less=False)
        second_token = delayed(m, odd, group_scaler.LATENCY, "second_token", reset_less=False)
        m.d.comb += [
            self.sums.valid.eq(first_token | second_token),
            self.sums.bank.eq(task.bank),
            self.sums.first.eq(Mux(second_token, other.overwrite, word.overwrite)),
            self.sums.address.eq(
                Mux(second_token, other.address + task.blocks, word.address)
            ),
            self.events.scaler_steps.eq(self.sums.valid),
        ]
