from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from hw.memory.vector_memory import VectorMemory
from tests.hw.axi_models import simulate
from tests.hw.engines import load_config

READERS, WRITERS, WORDS = 3, 2, 4


@settings(max_examples=15)
@given(st.integers(0, 1 << 30), st.sampled_from([0.2, 0.6, 1.0]))
def test_reads_return_completed_writes(seed, chance):
    """A model follows every transfer; a small address range makes them meet."""
    config = load_config(port_bits=64)
    rng = random.Random(seed)
    dut = VectorMemory(config, READERS, WRITERS)
    starved = [0] * (READERS + WRITERS)

    async def drive(ctx):
        memory = [0] * WORDS
        offers: list[tuple[int, int] | None] = [None] * (READERS + WRITERS)
        expected = None
        for _ in range(150):
            ports = [*(port.request for port in dut.reads), *dut.writes]
            for n, port in enumerate(ports):
                if offers[n] is None and rng.random() < chance:
                    offers[n] = (rng.randrange(WORDS), rng.getrandbits(64))
                address, value = offers[n] or (0, 0)
                payload = address if n < READERS else {"address": address, "data": value}
                ctx.set(port.payload, payload)
                ctx.set(port.valid, offers[n] is not None)
            if expected is not None:
                reader, value = expected
                assert ctx.get(dut.reads[reader].data) == value
            taken = [n for n, port in enumerate(ports) if offers[n] and ctx.get(port.ready)]
            readers, writers = [n for n in taken if n < READERS], [n for n in taken if n >= READERS]
            assert len(readers) == any(offers[:READERS]) == ctx.get(dut.events.vector_reads)
            assert len(writers) == any(offers[READERS:]) == ctx.get(dut.events.vector_writes)
            expected = None
            written = {offers[n][0] for n in writers}
            if readers and offers[readers[0]][0] not in written:
                expected = readers[0], memory[offers[readers[0]][0]]
            for n in writers:
                memory[offers[n][0]] = offers[n][1]
            for n in range(len(ports)):
                starved[n] = starved[n] + 1 if offers[n] and n not in taken else 0
                assert starved[n] < (READERS if n < READERS else WRITERS)
            for n in taken:
                offers[n] = None
            await ctx.tick()

    simulate(dut, [drive], [], 200)
