from __future__ import annotations

import random

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.interfaces import ReadCommand
from hw.memory.arbiter import RoundRobin
from hw.memory.fifo import Fifo
from hw.memory.read_mux import ReadMux
from tests.hw import streams
from tests.hw.axi_models import Channel, held, receive, send, simulate, word_at
from tests.hw.engines import ExternalMemory, Traffic, load_config
from tests.hw.formal import prove_held

CLIENTS = 3


@settings(max_examples=15)
@given(st.integers(0, 1 << 30), st.sampled_from([0.3, 0.7, 1.0]))
def test_each_client_gets_its_words(seed, chance):
    config = load_config(port_bits=64)
    rng = random.Random(seed)
    size = config.port_bytes
    values = [word_at(n, 64) for n in range(512)]
    memory = ExternalMemory(
        b"".join(value.to_bytes(size, "little") for value in values),
        Traffic(rng.random(), chance),
    )
    dut = ReadMux(config, CLIENTS)
    commands = [
        [(rng.randrange(480), rng.choice([1, 1, 2, 9])) for _ in range(rng.randrange(25))]
        for _ in range(CLIENTS)
    ]
    received: list[list[int]] = [[] for _ in range(CLIENTS)]
    counted = [0] * CLIENTS

    def put(client):
        async def process(ctx):
            payloads = [{"address": size * word, "words": n} for word, n in commands[client]]
            await send(ctx, dut.commands[client], payloads, Traffic(seed + client, chance))
        return process

    def get(client):
        async def process(ctx):
            expected = sum(n for _, n in commands[client])
            stalls = Traffic(seed - client, chance)
            await receive(ctx, dut.words[client], expected, stalls, received[client])
        return process

    async def count(ctx):
        while True:
            *_, mask = await ctx.tick().sample(dut.events.client_words)
            for client in range(CLIENTS):
                counted[client] += mask >> client & 1

    command = dut.command
    simulate(dut, [make(n) for make in (put, get) for n in range(CLIENTS)], [
        count,
        lambda ctx: memory.serve(ctx, command, dut.data),
        lambda ctx: held(ctx, command.valid, command.ready, command.payload),
        *(lambda ctx, port=port: held(ctx, port.valid, port.ready, port.payload)
          for port in dut.words),
    ], 20000)
    for client in range(CLIENTS):
        expected = [values[word + k] for word, n in commands[client] for k in range(n)]
        assert received[client] == expected
        assert counted[client] == len(expected)


@settings(max_examples=10)
@given(st.integers(1, 7), st.integers(0, 1 << 30))
def test_round_robin_serves_the_next_client(clients, seed):
    dut = RoundRobin(clients)
    rng = random.Random(seed)

    async def drive(ctx):
        last = clients - 1
        for _ in range(60):
            requests, advance = rng.getrandbits(clients), rng.getrandbits(1)
            ctx.set(dut.requests, requests)
            ctx.set(dut.advance, advance)
            order = [(last + 1 + k) % clients for k in range(clients)]
            winner = next((n for n in order if requests >> n & 1), None)
            assert ctx.get(dut.grant) == (0 if winner is None else 1 << winner)
            if advance and winner is not None:
                last = winner
            await ctx.tick()

    simulate(dut, [drive], [], 100)


DELAYS = st.lists(st.integers(0, 3), max_size=30)


@settings(max_examples=15)
@given(st.integers(4, 9), st.lists(st.integers(0, 255), max_size=30), DELAYS, DELAYS)
def test_fifo_keeps_order(depth, values, gaps, stalls):
    assert streams.run(Fifo(8, depth), values, len(values), gaps, stalls) == values


class BufferedMux(wiring.Component):
    """A mux whose words come from a queue, so that they are held as the contract demands."""

    def __init__(self, config):
        self.mux = ReadMux(config, 2)
        super().__init__({
            "commands": In(ReadCommand()).array(2),
            "command": Out(ReadCommand()),
            "data": In(stream.Signature(config.port_bits)),
            "words": Out(stream.Signature(config.port_bits)).array(2),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.mux = mux = self.mux
        m.submodules.queue = queue = Fifo(Signal.like(self.data.payload).shape(), 4)
        connect(m, flipped(self.data), queue.i)
        connect(m, queue.o, mux.data)
        connect(m, mux.command, flipped(self.command))
        for n in range(2):
            connect(m, flipped(self.commands[n]), mux.commands[n])
            connect(m, mux.words[n], flipped(self.words[n]))
        return m


def test_command_is_held(tmp_path):
    dut = ReadMux(load_config(port_bits=64), 3)
    command = dut.command
    prove_held(Channel(dut, command.valid, command.ready, command.payload), tmp_path, 3)


def test_words_are_held(tmp_path):
    dut = BufferedMux(load_config(port_bits=64))
    words = dut.words[1]
    prove_held(Channel(dut, words.valid, words.ready, words.payload), tmp_path, 3)
