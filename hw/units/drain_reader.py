"""Reading side of the drain engine: sums, token scales and parameters for the dequantizer."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import HardwareConfig
from hw.golden.dequant import TOKEN_SCALE_BITS
from hw.interfaces import AccumulatorRead, MemoryRead, task_layout
from hw.isa import Opcode
from hw.units.dequantizer import dequantizer_input
from hw.units.header_line import HeaderLine
from hw.units.row_counter import RowCounter

PARAMETER_WORDS = 4
"""Port words of the parameters of one vector word: zero (2), bias, multiplier."""
SCALE_ADDRESS_BITS = 8
HEADER_BYTES = 3


class DrainReader(wiring.Component):
    """The dequantizer's input for ``words`` vector words of every row, all rows of a word first.

    One vector word a cycle while parameters arrive in time: 4 port words for each word of all
    rows, of which the next four are taken ahead; with ``compact`` only the last of them for each
    word behind the first, with ``uniform`` only 4 port words in all.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    task : In, fields of a DRAIN, held while it runs
    starting : In(1), the next words of ``words`` belong to ``task``
    words : In(stream of port words), header line and parameters
    accumulator : Out(AccumulatorRead)
    scale_read : Out(MemoryRead), token scales
    o : Out(stream of `dequantizer_input`)
    step : Out(1), a vector word is read
    """

    task: data.View
    words: stream.Interface
    accumulator: wiring.PureInterface
    scale_read: wiring.PureInterface
    o: stream.Interface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "task": In(task_layout(Opcode.DRAIN)),
            "starting": In(1),
            "words": In(stream.Signature(config.port_bits)),
            "accumulator": Out(AccumulatorRead(config)),
            "scale_read": Out(MemoryRead(SCALE_ADDRESS_BITS, TOKEN_SCALE_BITS)),
            "o": Out(stream.Signature(dequantizer_input(
                config.word_elements, config.sum_bits))),
            "step": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.header = header = HeaderLine(self.config, HEADER_BYTES)
        m.submodules.rows = rows = RowCounter()
        connect(m, flipped(self.words), header.i)
        o, task = self.o, self.task
        last_leaves, in_use, last = Signal(), Signal(), Signal()
        load = self._parameters(m, header.o, in_use, last_leaves)

        # A read is issued only when the sums before it leave, so that its own find the way free.
        reading, wait, place = Signal(), Signal(), Signal.like(rows.word)
        m.d.comb += [
            header.restart.eq(self.starting),
            rows.restart.eq(self.starting),
            rows.step.eq(self.step),
            rows.tokens.eq(task.tokens),
            rows.heads.eq(task.heads),
            rows.words.eq(task.words),
            last_leaves.eq(o.valid & o.ready & last),
            place.eq(rows.word + task.begin),
            wait.eq(rows.first_row & ~(task.uniform & in_use)),
            self.step.eq(reading & Mux(wait, load, ~o.valid | o.ready)),
            o.p.shift1.eq(header.line[0:8]),
            o.p.shift2.eq(header.line[8:16]),
            o.p.bias_shift.eq(header.line[16:24]),
        ]
        with m.If(self.starting):
            m.d.sync += reading.eq(1)
        with m.Elif(self.step):
            m.d.sync += [reading.eq(~rows.last), last.eq(rows.last_row)]
        self._addresses(m, rows, place)
        self._offer(m, place)
        return m

    def _parameters(
        self, m: Module, words: stream.Interface, in_use: Signal, last_leaves: Value
    ) -> Signal:
        """Collect the parameters of a vector word while those of the word before it are used.

        ``last_leaves``: the last row of a word leaves for the dequantizer. Returns a pulse in the
        cycle before new parameters are in use.
        """
        o, width = self.o, self.config.port_bits
        coming, used = Signal(PARAMETER_WORDS * width), Signal(PARAMETER_WORDS * width)
        collected = Signal(range(PARAMETER_WORDS))
        full, complete, load, discard = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            words.ready.eq(~full | load),
            discard.eq(last_leaves & ~self.task.uniform),
            load.eq(full & (~in_use | discard)),
            Cat(o.p.zero, o.p.bias, o.p.multiplier).eq(used),
            complete.eq(collected == PARAMETER_WORDS - 1),
        ]
        with m.If(load):
            m.d.sync += [used.eq(coming), full.eq(0), in_use.eq(1)]
        with m.Elif(discard | self.starting):
            m.d.sync += in_use.eq(0)
        with m.If(words.valid & words.ready):
            m.d.sync += full.eq(complete)
            with m.If(~(complete & self.task.compact)):
                m.d.sync += collected.eq(collected + 1)
            with m.Switch(collected):
                for index in range(PARAMETER_WORDS):
                    with m.Case(index):
                        m.d.sync += coming[index * width:(index + 1) * width].eq(words.payload)
        with m.If(self.starting):
            m.d.sync += collected.eq(0)
        return load

    def _addresses(self, m: Module, rows: RowCounter, place: Value) -> None:
        """Ask for the sums and the scale of a row with every step; place: word of the columns."""
        task, read, scales = self.task, self.accumulator, self.scale_read
        slot_bits = (self.config.lanes // self.config.word_elements).bit_length() - 1
        address, row = Signal(12), Signal(SCALE_ADDRESS_BITS)
        m.d.comb += [
            read.en.eq(self.step),
            read.bank.eq(task.bank),
            read.address.eq(address),
            scales.en.eq(self.step & task.token_scale),
            scales.address.eq(task.scales + row),
        ]
        with m.If(self.starting):
            m.d.sync += [address.eq(task.accumulator), row.eq(0)]
        with m.Elif(self.step):
            m.d.sync += [address.eq(address + task.blocks), row.eq(row + 1)]
            with m.If(rows.last_row):
                block = (place + 1) >> slot_bits
                m.d.sync += [address.eq(task.accumulator + block), row.eq(0)]

    def _offer(self, m: Module, word: Value) -> None:
        """Offer the sums that were read; they are kept, as the memory shows them only once."""
        o, slots = self.o, self.config.lanes // self.config.word_elements
        arriving, kept, slot = Signal(), Signal(), Signal(range(slots))
        sums, scale = Signal(o.p.sums.shape()), Signal(TOKEN_SCALE_BITS)
        kept_sums, kept_scale = Signal.like(sums), Signal.like(scale)
        width = sums.as_value().shape().width
        m.d.sync += [arriving.eq(self.step), kept.eq(o.valid & ~o.ready)]
        with m.If(self.step):
            m.d.sync += slot.eq(word)
        with m.Switch(slot):
            for index in range(slots):
                with m.Case(index):
                    part = self.accumulator.data.as_value()[index * width:(index + 1) * width]
                    m.d.comb += sums.as_value().eq(part)
        with m.If(arriving):
            m.d.sync += [kept_sums.eq(sums), kept_scale.eq(scale)]
        m.d.comb += [
            scale.eq(Mux(self.task.token_scale, self.scale_read.data, 1)),
            o.valid.eq(arriving | kept),
            o.p.sums.as_value().eq(Mux(kept, kept_sums.as_value(), sums.as_value())),
            o.p.scale.eq(Mux(kept, kept_scale, scale)),
        ]
