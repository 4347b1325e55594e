from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.memory.axi_read_master import AxiReadMaster
from tests.hw.axi_models import Channel, ReadMemory, held, receive, send, simulate, word_at
from tests.hw.engines import Traffic, load_config
from tests.hw.formal import prove_held


def read(config, commands, memory, gaps, stalls, cycles=4000):
    """Words of all commands; the memory model checks every burst."""
    dut = AxiReadMaster(config)
    size = config.port_bytes
    received, counts = [], {"cycles": 0, "errors": 0, "read_words": 0}
    expected = sum(words for _, words in commands)

    async def put(ctx):
        payloads = [{"address": address, "words": words} for address, words in commands]
        await send(ctx, dut.command, payloads, gaps)

    async def get(ctx):
        await receive(ctx, dut.words, expected, stalls, received)

    async def count(ctx):
        while True:
            *_, error, event = await ctx.tick().sample(dut.error, dut.events.read_words)
            counts["cycles"] += 1
            counts["errors"] += error
            counts["read_words"] += event
            assert memory.requested - len(received) <= dut.depth + 1

    simulate(dut, [put, get], [
        count,
        lambda ctx: memory.serve(ctx, dut.axi),
        lambda ctx: held(ctx, dut.axi.arvalid, dut.axi.arready, dut.axi.araddr, dut.axi.arlen),
        lambda ctx: held(ctx, dut.words.valid, dut.words.ready, dut.words.payload),
    ], cycles)
    assert received == [
        word_at(address + k * size, config.port_bits)
        for address, words in commands for k in range(words)
    ]
    return counts


@settings(max_examples=20)
@given(st.data())
def test_words_come_in_order(case):
    config = load_config(
        port_bits=case.draw(st.sampled_from([64, 128])),
        read_fifo_words=case.draw(st.sampled_from([2, 8, 32, 128])),
    )
    rng = random.Random(case.draw(st.integers(0, 1 << 30)))
    chance = case.draw(st.sampled_from([0.3, 0.7, 1.0]))
    commands = [
        (rng.randrange(1 << 40 - 13) * 4096 + 4096 - config.port_bytes * rng.randrange(1, 90),
         rng.choice([1, 1, 2, 3, rng.randrange(1, 80)]))
        for _ in range(rng.randrange(1, 9))
    ]
    memory = ReadMemory(Traffic(rng.random(), chance), rng.choice([0, 5, 40]))
    gaps, stalls = Traffic(rng.random(), chance), Traffic(rng.random(), chance)
    counts = read(config, commands, memory, gaps, stalls, 40000)
    assert counts["read_words"] == sum(words for _, words in commands)
    assert counts["errors"] == 0


def test_one_word_a_cycle():
    config = load_config(read_fifo_words=128)
    memory = ReadMemory(Traffic(0, 1.0), 64)
    always = Traffic(0, 1.0)
    assert read(config, [(0, 600)], memory, always, always)["cycles"] < 64 + 600 + 16


@pytest.mark.parametrize("words", [1, 2])
def test_short_commands_follow_each_other(words):
    config = load_config(read_fifo_words=128)
    commands = [(random.Random(n).randrange(4096) * 64, words) for n in range(200)]
    memory = ReadMemory(Traffic(0, 1.0), 20)
    always = Traffic(0, 1.0)
    # The sender of this test offers a command every cycle.
    assert read(config, commands, memory, always, always)["cycles"] < 20 + 200 * words + 16


def test_error_responses_are_reported():
    config = load_config()
    memory = ReadMemory(Traffic(3, 0.8), errors=frozenset({48, 160}))
    always = Traffic(0, 1.0)
    assert read(config, [(0, 32)], memory, always, always)["errors"] == 2


def test_address_channel_is_held(tmp_path):
    dut = AxiReadMaster(load_config(port_bits=64, read_fifo_words=8))
    axi = dut.axi
    prove_held(Channel(dut, axi.arvalid, axi.arready, axi.araddr, axi.arlen), tmp_path, 3)


def test_words_are_held(tmp_path):
    dut = AxiReadMaster(load_config(port_bits=64, read_fifo_words=8))
    prove_held(Channel(dut, dut.words.valid, dut.words.ready, dut.words.payload), tmp_path, 3)
