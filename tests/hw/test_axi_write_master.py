from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from hw.memory.axi_write_master import AxiWriteMaster
from tests.hw.axi_models import Channel, WriteMemory, held, merge, send, simulate, word_at
from tests.hw.engines import Traffic, load_config
from tests.hw.formal import prove_held


def write(config, commands, memory, gaps, cycles=40000):
    """Write every command, with random strobes, and compare the memory once the master is idle."""
    dut = AxiWriteMaster(config)
    axi, size = dut.axi, config.port_bytes
    contents: dict[int, int] = {}
    counts = {"cycles": 0, "errors": 0, "write_words": 0}
    stream = []
    for number, (address, words) in enumerate(commands):
        for k in range(words):
            value = word_at(address + k + number, config.port_bits)
            strobe = gaps.random.choice([(1 << size) - 1, gaps.random.getrandbits(size)])
            stream.append({"data": value, "strobe": strobe})
            place = address + k * size
            contents[place] = merge(contents.get(place, 0), value, strobe)

    async def put_commands(ctx):
        payloads = [{"address": address, "words": words} for address, words in commands]
        await send(ctx, dut.command, payloads, gaps)

    async def put_words(ctx):
        await send(ctx, dut.words, stream, gaps)

    async def wait_idle(ctx):
        finished, taken = False, 0
        while not finished:
            *_, idle, valid, ready = await ctx.tick().sample(
                dut.idle, dut.command.valid, dut.command.ready
            )
            if idle:
                assert memory.answered == sum(words for _, words in commands[:taken])
            finished = idle and taken == len(commands)
            taken += valid & ready
        assert memory.contents == contents

    async def count(ctx):
        while True:
            *_, error, event = await ctx.tick().sample(dut.error, dut.events.write_words)
            counts["cycles"] += 1
            counts["errors"] += error
            counts["write_words"] += event

    simulate(dut, [put_commands, put_words, wait_idle], [
        count,
        lambda ctx: memory.serve(ctx, axi),
        lambda ctx: held(ctx, axi.awvalid, axi.awready, axi.awaddr, axi.awlen),
        lambda ctx: held(ctx, axi.wvalid, axi.wready, axi.wdata, axi.wstrb, axi.wlast),
    ], cycles)
    return counts


@settings(max_examples=20)
@given(st.data())
def test_memory_holds_the_words(case):
    config = load_config(port_bits=case.draw(st.sampled_from([64, 128])))
    rng = random.Random(case.draw(st.integers(0, 1 << 30)))
    chance = case.draw(st.sampled_from([0.3, 0.7, 1.0]))
    commands = [
        (rng.randrange(1 << 40 - 13) * 4096 + 4096 - config.port_bytes * rng.randrange(1, 90),
         rng.choice([1, 2, rng.randrange(1, 150)]))
        for _ in range(rng.randrange(1, 5))
    ]
    memory = WriteMemory(Traffic(rng.random(), chance))
    counts = write(config, commands, memory, Traffic(rng.random(), chance))
    assert counts["write_words"] == sum(words for _, words in commands)
    assert counts["errors"] == 0


def test_nearly_one_word_a_cycle():
    always = Traffic(0, 1.0)
    counts = write(load_config(), [(0, 640)], WriteMemory(Traffic(0, 1.0)), always)
    assert counts["cycles"] < 640 + 640 // 64 + 16


def test_error_responses_are_reported():
    memory = WriteMemory(Traffic(1, 0.7), error_at=1)
    assert write(load_config(), [(0, 200)], memory, Traffic(2, 0.9))["errors"] == 1


def test_address_channel_is_held(tmp_path):
    dut = AxiWriteMaster(load_config(port_bits=64))
    axi = dut.axi
    prove_held(Channel(dut, axi.awvalid, axi.awready, axi.awaddr, axi.awlen), tmp_path, 3)


def test_data_channel_is_held(tmp_path):
    dut = AxiWriteMaster(load_config(port_bits=64))
    axi = dut.axi
    channel = Channel(dut, axi.wvalid, axi.wready, axi.wdata, axi.wstrb, axi.wlast)
    prove_held(channel, tmp_path, 3)
