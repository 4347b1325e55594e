"""Fetches activations and channel factors for the multiplier array, chunk by chunk."""

from __future__ import annotations

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.golden import packing
from hw.interfaces import MemoryRead
from hw.isa import SimdMode
from hw.units.delay import delayed
from hw.units.packed_dot import ALPHA_BITS, dot_step_layout
from hw.units.packed_multiplier import pack_activation, split_power
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
    plain : In(1), factors are 0 and not read (always so for W8L4)
    operand, alpha : Out(MemoryRead), read once for each word
    activations : simd_depth x Out(signed(18)), packed
    upper : Out(simd_depth), of W8L4, 2 cycles behind ``activations``; only with log2_softmax
    dot_step : Out(`dot_step_layout`), level with ``activations``
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        upper = {"upper": Out(config.simd_depth)} if config.log2_softmax else {}
        super().__init__(upper | {
            "mode": In(2),
            "plain": In(1),
            "step": In(chunk_layout(config)),
            "operand": Out(MemoryRead(16, config.word_elements * 8)),
            "alpha": Out(MemoryRead(12, ALPHA_BITS * config.chunks_per_word)),
            "activations": Out(signed(packing.ACTIVATION_BITS)).array(config.simd_depth),
            "dot_step": Out(dot_step_layout()),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, step = self.config, self.step
        log2, plain, fetches = Signal(), Signal(), Signal()
        m.d.comb += [
            log2.eq(self.mode == SimdMode.W8L4),
            plain.eq(self.plain | log2),
            fetches.eq(step.valid & step.fetch),
            self.operand.en.eq(fetches),
            self.operand.address.eq(step.operand),
            self.alpha.en.eq(fetches & ~plain),
            self.alpha.address.eq(step.alpha),
        ]

        valid = delayed(m, step.valid, 1, "valid", reset_less=False)
        fetch = delayed(m, step.fetch, 1, "fetch")
        word = Signal(config.word_elements * 8, reset_less=True)
        alphas = Signal(ALPHA_BITS * config.chunks_per_word, reset_less=True)
        factor = Signal(ALPHA_BITS)
        before = Signal(ALPHA_BITS, reset_less=True)
        factors = Mux(plain, 0, self.alpha.data)
        m.d.comb += factor.eq(alphas)
        with m.If(valid):
            m.d.sync += [
                word.eq(Mux(fetch, self.operand.data, word >> (config.simd_depth * 8))),
                alphas.eq(Mux(fetch, factors, alphas >> ALPHA_BITS)),
                before.eq(factor),
            ]

        for k in range(config.simd_depth):
            byte = word.word_select(k, 8)
            packed = pack_activation(self.mode, byte)
            if config.log2_softmax:
                power, shifted = split_power(byte[:packing.NIBBLE_BITS])
                packed = Mux(log2, power, packed)
                m.d.comb += self.upper[k].eq(delayed(m, shifted, 2, f"upper{k}"))
            m.d.comb += self.activations[k].eq(packed)
        first = delayed(m, step.first, 2, "first")
        m.d.comb += [
            self.dot_step.valid.eq(delayed(m, valid, 1, "level", reset_less=False)),
            self.dot_step.first.eq(first),
            self.dot_step.last.eq(delayed(m, step.last, 2, "last")),
            self.dot_step.shift.eq(Mux(first, 0, before - factor)),
            self.dot_step.final.eq(factor),
        ]
        return m
