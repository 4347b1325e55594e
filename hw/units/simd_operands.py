"""Fetches activations and channel factors for the multiplier array, chunk by chunk."""

from __future__ import annotations

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.golden import packing
from hw.interfaces import MemoryRead
from hw.units.delay import delayed
from hw.units.packed_dot import ALPHA_BITS, dot_step_layout
from hw.units.packed_multiplier import pack_activation
from hw.units.simd_sequencer import chunk_layout

LATENCY = 2
"""Cycles from a step to its activations."""


class SimdOperands(wiring.Component):
    """Words of the operand store and of the alphas, cut into chunks; `LATENCY` cycles.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    mode : In(2), `SimdMode`
    step : In(`chunk_layout`)
    operand, alpha : Out(MemoryRead), read once for each word
    activations : simd_depth x Out(signed(18)), packed
    dot_step : Out(`dot_step_layout`), level with ``activations``
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "mode": In(2),
            "step": In(chunk_layout(config)),
            "operand": Out(MemoryRead(16, config.word_elements * 8)),
            "alpha": Out(MemoryRead(12, ALPHA_BITS * config.chunks_per_word)),
            "activations": Out(signed(packing.ACTIVATION_BITS)).array(config.simd_depth),
            "dot_step": Out(dot_step_layout()),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, step = self.config, self.step
        for port, address in ((self.operand, step.operand), (self.alpha, step.alpha)):
            m.d.comb += [port.en.eq(step.valid & step.fetch), port.address.eq(address)]

        valid = delayed(m, step.valid, 1, "valid", reset_less=False)
        fetch = delayed(m, step.fetch, 1, "fetch")
        word = Signal(config.word_elements * 8, reset_less=True)
        alphas = Signal(ALPHA_BITS * config.chunks_per_word, reset_less=True)
        factor = Signal(ALPHA_BITS)
        before = Signal(ALPHA_BITS, reset_less=True)
        m.d.comb += factor.eq(alphas)
        with m.If(valid):
            m.d.sync += [
                word.eq(Mux(fetch, self.operand.data, word >> (config.simd_depth * 8))),
                alphas.eq(Mux(fetch, self.alpha.data, alphas >> ALPHA_BITS)),
                before.eq(factor),
            ]

        for k in range(config.simd_depth):
            m.d.comb += self.activations[k].eq(pack_activation(self.mode, word.word_select(k, 8)))
        first = delayed(m, step.first, 2, "first")
        m.d.comb += [
            self.dot_step.valid.eq(delayed(m, valid, 1, "level", reset_less=False)),
            self.dot_step.first.eq(first),
            self.dot_step.last.eq(delayed(m, step.last, 2, "last")),
            self.dot_step.shift.eq(Mux(first, 0, before - factor)),
            self.dot_step.final.eq(factor),
        ]
        return m
