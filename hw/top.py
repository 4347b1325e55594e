"""The accelerator: engines, memories, control and their connections, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from amaranth import Cat, Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import Member, Out, connect

from hw.config import HardwareConfig
from hw.control.dispatcher import Dispatcher
from hw.control.fetch import Fetch
from hw.control.registers import Registers
from hw.control.watchdog import Watchdog
from hw.interfaces import task_layout
from hw.isa import ENGINE_OF, HEADER, Engine, Opcode
from hw.memory.aux_port import AuxPort
from hw.memory.axi import Axi4Read, Axi4Write, AxiLite
from hw.memory.axi_read_master import AxiReadMaster
from hw.memory.axi_write_master import AxiWriteMaster
from hw.memory.operand_store import OperandStore
from hw.memory.token_order import TokenOrder
from hw.memory.vector_memory import VectorMemory
from hw.register_map import counters
from hw.units.accumulator import Accumulator
from hw.units.activate_engine import ActivateEngine
from hw.units.append_engine import AppendEngine
from hw.units.drain_engine import DrainEngine
from hw.units.gather_engine import GatherEngine
from hw.units.hadamard_engine import HadamardEngine
from hw.units.load_engine import LoadEngine
from hw.units.lut_engine import LutEngine
from hw.units.norm_engine import NormEngine
from hw.units.order_engine import OrderEngine
from hw.units.position_lists import PositionLists
from hw.units.quantize_engine import QuantizeEngine
from hw.units.rope_engine import RopeEngine
from hw.units.search_engine import SearchEngine
from hw.units.simd_engine import SimdEngine
from hw.units.softmax_engine import SoftmaxEngine
from hw.units.store_engine import StoreEngine
from hw.units.weight_prefetch import WeightPrefetch

ENGINES: dict[str, Callable[[HardwareConfig], Any]] = {
    "load": LoadEngine, "search": SearchEngine, "quantize": QuantizeEngine, "lut": LutEngine,
    "drain": DrainEngine, "activate": ActivateEngine, "store": StoreEngine,
}
TRANSFORMER_ENGINES: dict[str, Callable[[HardwareConfig], Any]] = {
    "simd": SimdEngine, "gather": GatherEngine, "append": AppendEngine, "norm": NormEngine,
    "rope": RopeEngine, "hadamard": HadamardEngine, "softmax": SoftmaxEngine,
    "order": OrderEngine,
}
"""What whole layers need besides: attention runs on the multiplier array."""
OPERAND_WRITERS = ("search", "quantize", "softmax")
VECTOR_READS = {
    "search": "vector", "quantize": "vector", "store": "vector", "append": "vector",
    "softmax": "vector", "activate": "vector_read", "gather": "vector_read",
    "norm": "vector_read", "rope": "vector_read", "hadamard": "vector_read", "drain": "residual",
}
VECTOR_WRITES = {
    "load": "vector", "drain": "vector", "gather": "vector_write", "activate": "vector_write",
    "norm": "vector_write", "rope": "vector_write", "hadamard": "vector_write",
}
"""Ports of the engines that read and write the vector memory."""
AUX_CLIENTS = ("load", "gather", "quantize", "drain", "activate", "norm", "rope")
"""Engines that share the aux read port with instruction fetch."""


def present(names: Iterable[str], config: HardwareConfig) -> list[str]:
    """Those engines that the accelerator has."""
    absent = set() if config.hadamard else {"hadamard"}
    if not config.orders_tokens:
        absent |= {"order"}
    return [name for name in names
            if name in ENGINES or (config.simd and name not in absent)]


def read_port_names(config: HardwareConfig) -> list[str]:
    """AXI4 read masters: the weight ports, then centroids, then aux."""
    return [*(f"w{number}" for number in range(config.weight_ports)), "centroid", "aux"]


def flat_ports(config: HardwareConfig) -> dict[str, Member]:
    """Conventional flat port names: ``m_axi_w0_araddr``, ``s_axil_awaddr``."""
    ports: dict[str, Member] = {}
    for name in read_port_names(config):
        ports |= {f"m_axi_{name}_{key}": member
                  for key, member in Axi4Read(config).members.items()}
    ports |= {f"m_axi_write_{key}": member for key, member in Axi4Write(config).members.items()}
    ports |= {f"s_axil_{key}": member.flip() for key, member in AxiLite().members.items()}
    return ports


def trace_ports(config: HardwareConfig) -> dict[str, Member]:
    """Taps on what the engines write, for checkers; synthesis drops them when left open."""
    operands, words = 8 * config.word_elements, config.port_bits
    ports: dict[str, Member] = {}
    widths = dict.fromkeys(present(OPERAND_WRITERS, config), operands)
    widths |= dict.fromkeys([*present(VECTOR_WRITES, config), *present(["order"], config)], words)
    for name, width in widths.items():
        ports |= {f"trace_{name}_valid": Out(1), f"trace_{name}_address": Out(16),
                  f"trace_{name}_data": Out(width)}
    return ports | {
        "trace_quantize_nibbles": Out(2 * config.word_elements),
        "trace_sums_valid": Out(1),
        "trace_sums_address": Out(13),
        "trace_sums_first": Out(1),
        "trace_busy": Out(len(Engine)),
        "trace_waiting": Out(len(Engine)),
        "trace_completed": Out(len(Engine)),
    }


class Accelerator(wiring.Component):
    """Everything between the AXI ports.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    m_axi_<port>_* : AXI4 masters, see `read_port_names` and ``write``
    s_axil_* : AXI4-Lite registers, see `hw.register_map`
    irq : Out(1), done or error
    trace_* : Out, see `trace_ports`
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({**flat_ports(config), "irq": Out(1), **trace_ports(config)})

    def _attach(self, m: Module, prefix: str, interface: Any) -> None:
        """Connect a component's AXI interface to the flat ports of a prefix."""
        for name, member in interface.signature.members.items():
            inner, outer = getattr(interface, name), getattr(self, f"{prefix}_{name}")
            m.d.comb += outer.eq(inner) if member.flow == Out else inner.eq(outer)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        kinds = ENGINES | TRANSFORMER_ENGINES
        engines = {name: kinds[name](config) for name in present(kinds, config)}
        for name, engine in engines.items():
            m.submodules[name] = engine
        events: dict[str, Any] = {}

        def count(component: Any) -> None:
            for name in component.events.shape().members:
                events[name] = component.events[name]

        masters = self._read_masters(m, events)
        writer = self._write_side(m, engines, events)
        prefetch = self._weight_ports(m, engines, masters, events)
        connect(m, engines["search"].command, masters["centroid"].command)
        connect(m, masters["centroid"].words, engines["search"].words)

        m.submodules.fetch = fetch = Fetch(config)
        m.submodules.dispatcher = dispatcher = Dispatcher(config)
        clients = {"fetch": fetch} | {
            name: engines[name] for name in present(AUX_CLIENTS, config)}
        m.submodules.aux = aux = AuxPort(config, list(clients))
        m.d.comb += aux.waiting.eq(dispatcher.waiting)
        for engine in Engine:
            m.d.comb += aux.opcodes[engine].eq(dispatcher.tasks[engine].payload)
        for number, client in enumerate(clients.values()):
            connect(m, client.command, aux.commands[number])
            connect(m, aux.words[number], client.words)
        connect(m, aux.command, masters["aux"].command)
        connect(m, masters["aux"].words, aux.data)

        self._memories(m, engines, count)
        for engine in engines.values():
            if hasattr(engine, "events"):
                count(engine)
        read_errors = [master.error for master in masters.values()]
        self._control(m, engines, dispatcher, fetch, prefetch, events, read_errors, writer.error)
        return m

    def _read_masters(self, m: Module, events: dict[str, Any]) -> dict[str, Any]:
        masters = {}
        for name in read_port_names(self.config):
            m.submodules[f"axi_{name}"] = masters[name] = master = AxiReadMaster(self.config)
            self._attach(m, f"m_axi_{name}", master.axi)
            events[f"read_words_{name}"] = master.events.read_words
        return masters

    def _write_side(self, m: Module, engines: dict[str, Any], events: dict[str, Any]) -> Any:
        """One of store and append runs at a time and has the write port."""
        m.submodules.axi_write = writer = AxiWriteMaster(self.config)
        self._attach(m, "m_axi_write", writer.axi)
        for name in present(("store", "append"), self.config):
            engine = engines[name]
            m.d.comb += engine.idle.eq(writer.idle)
            with m.If(engine.task.valid):
                for stream, target in ((engine.command, writer.command),
                                       (engine.words, writer.words)):
                    m.d.comb += [
                        target.valid.eq(stream.valid), target.payload.eq(stream.payload),
                        stream.ready.eq(target.ready),
                    ]
        events["write_words"] = writer.events.write_words
        return writer

    def _weight_ports(
        self, m: Module, engines: dict[str, Any], masters: dict[str, Any], events: dict[str, Any]
    ) -> Any:
        """One of the lookup engine and the multiplier array runs at a time and has the words."""
        m.submodules.prefetch = prefetch = WeightPrefetch(self.config)
        events["prefetched_words"] = prefetch.events.prefetched_words
        linear = [engines[name] for name in present(("lut", "simd"), self.config)]
        for number in range(self.config.weight_ports):
            master = masters[f"w{number}"]
            connect(m, prefetch.commands[number], master.command)
            connect(m, engines["lut"].commands[number], prefetch.gather[number])
            m.d.comb += [
                prefetch.arrived[number].eq(master.events.read_words),
                prefetch.taken[number].eq(master.words.valid & master.words.ready),
            ]
            for engine in linear:
                if number >= len(engine.words):
                    continue
                words = engine.words[number]
                m.d.comb += words.payload.eq(master.words.payload)
                with m.If(engine.task.valid):
                    m.d.comb += [
                        words.valid.eq(master.words.valid),
                        master.words.ready.eq(words.ready),
                    ]
        return prefetch

    def _memories(self, m: Module, engines: dict[str, Any], count: Any) -> None:
        config = self.config
        readers = [getattr(engines[name], VECTOR_READS[name])
                   for name in present(VECTOR_READS, config)]
        writers = {name: getattr(engines[name], VECTOR_WRITES[name])
                   for name in present(VECTOR_WRITES, config)}
        m.submodules.vector_memory = vector = VectorMemory(
            config, readers=len(readers), writers=len(writers))
        m.submodules.operand_store = operands = OperandStore(config)
        m.submodules.accumulator = accumulator = Accumulator(config)
        for component in (vector, operands, accumulator):
            count(component)
        quantize, drain, lut = (engines[name] for name in ("quantize", "drain", "lut"))
        for number, client in enumerate(readers):
            connect(m, client, vector.reads[number])
        for number, (name, client) in enumerate(writers.items()):
            connect(m, client, vector.writes[number])
            self._tap(m, name, client)
        for number, name in enumerate(present(OPERAND_WRITERS, config)):
            client = engines[name].operand
            connect(m, client, operands.writes[number])
            self._tap(m, name, client)
        m.d.comb += self.trace_quantize_nibbles.eq(quantize.operand.p.nibbles)
        connect(m, quantize.alpha_write, operands.alpha_write)
        for number, name in enumerate(present(("quantize", "softmax"), config)):
            connect(m, engines[name].scale_write, operands.scale_writes[number])
        connect(m, drain.scale_read, operands.scale_read)
        connect(m, drain.accumulator, accumulator.read)
        if config.skips_positions:
            m.submodules.position_lists = lists = PositionLists(config)
            connect(m, quantize.list_write, lists.write)
            connect(m, lut.lists, lists.read)
        if config.orders_tokens:
            self._token_order(m, engines)

        simd = engines.get("simd")
        sums = accumulator.write
        if simd is None:
            connect(m, lut.operand, operands.read)
            connect(m, lut.sums, sums)
        else:
            connect(m, simd.alpha, operands.alpha_read)
            m.d.comb += [
                operands.read.en.eq(lut.operand.en | simd.operand.en),
                operands.read.address.eq(
                    Mux(simd.task.valid, simd.operand.address, lut.operand.address)
                ),
                lut.operand.data.eq(operands.read.data),
                simd.operand.data.eq(operands.read.data),
            ]
            for name in ("valid", "bank", "address", "first", "base", "sums"):
                m.d.comb += getattr(sums, name).eq(
                    Mux(simd.task.valid, getattr(simd.sums, name), getattr(lut.sums, name))
                )
        m.d.comb += [
            self.trace_sums_valid.eq(sums.valid),
            self.trace_sums_address.eq(Cat(sums.address, sums.bank)),
            self.trace_sums_first.eq(sums.first),
        ]

    def _token_order(self, m: Module, engines: dict[str, Any]) -> None:
        m.submodules.token_order = memory = TokenOrder()
        order = engines["order"]
        connect(m, engines["softmax"].add, memory.add)
        connect(m, order.importance, memory.importance)
        connect(m, order.order, memory.order)
        for number, name in enumerate(("quantize", "drain")):
            connect(m, engines[name].order, memory.reads[number])
        m.d.comb += [
            self.trace_order_valid.eq(order.order.valid),
            self.trace_order_address.eq(order.order.address),
            self.trace_order_data.eq(order.order.data),
        ]

    def _tap(self, m: Module, name: str, client: Any) -> None:
        m.d.comb += [
            getattr(self, f"trace_{name}_valid").eq(client.valid & client.ready),
            getattr(self, f"trace_{name}_address").eq(client.p.address),
            getattr(self, f"trace_{name}_data").eq(client.p.data),
        ]

    def _control(
        self, m: Module, engines: dict[str, Any], dispatcher: Any, fetch: Any, prefetch: Any,
        events: dict[str, Any], read_errors: list[Any], write_error: Any,
    ) -> None:
        config = self.config
        m.submodules.watchdog = watchdog = Watchdog(config)
        m.submodules.registers = registers = Registers(config, counters(config))
        connect(m, fetch.instructions, dispatcher.instructions)
        connect(m, dispatcher.ahead, prefetch.ahead)
        m.d.comb += prefetch.stored.eq(dispatcher.stored)
        linear = dispatcher.tasks[Engine.LINEAR]
        m.d.comb += [
            prefetch.running.eq(linear.valid),
            prefetch.completed.eq(dispatcher.completions[Engine.LINEAR]),
        ]
        tasks = {engine: dispatcher.tasks[engine] for engine in Engine}
        opcode_bits = HEADER["opcode"]
        for name, engine in engines.items():
            opcode = Opcode[name.upper()]
            task = tasks[ENGINE_OF[opcode]]
            width = task_layout(opcode).size
            mine = task.payload[:opcode_bits] == opcode
            m.d.comb += [
                engine.task.payload.eq(task.payload[:width]),
                engine.task.valid.eq(task.valid & mine),
            ]
            with m.If(mine):
                m.d.comb += task.ready.eq(engine.task.ready)
        for engine in Engine:
            events[f"busy_{engine.name.lower()}"] = dispatcher.busy[engine]
            events[f"waiting_{engine.name.lower()}"] = dispatcher.waiting[engine]
        for name in counters(config):
            if name in events:
                m.d.comb += getattr(registers.increments, name).eq(events[name])
        moved = [value for name, value in events.items()
                 if name.startswith(("read_words", "write_words"))]
        m.d.comb += [
            fetch.start.eq(registers.start),
            fetch.program.eq(registers.program),
            dispatcher.start.eq(registers.start),
            registers.finished.eq(dispatcher.finished),
            registers.errors.program.eq(dispatcher.error),
            registers.errors.read.eq(Cat(read_errors).any()),
            registers.errors.write.eq(write_error),
            registers.busy.eq(dispatcher.busy),
            registers.waiting.eq(dispatcher.waiting),
            registers.hang.eq(watchdog.hang),
            registers.hang_busy.eq(watchdog.hang_busy),
            registers.hang_waiting.eq(watchdog.hang_waiting),
            watchdog.running.eq(registers.running),
            watchdog.progress.eq(dispatcher.completions.any() | Cat(moved).any()),
            watchdog.limit.eq(registers.watchdog_limit),
            watchdog.clear.eq(registers.start),
            watchdog.busy.eq(dispatcher.busy),
            watchdog.waiting.eq(dispatcher.waiting),
            self.trace_busy.eq(dispatcher.busy),
            self.trace_waiting.eq(dispatcher.waiting),
            self.trace_completed.eq(dispatcher.completions),
            self.irq.eq(registers.irq),
        ]
        self._attach(m, "s_axil", registers.axi)
