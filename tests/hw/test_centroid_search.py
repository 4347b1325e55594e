"""The search pipeline against the golden search, under gaps and stalls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from amaranth import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.golden.search import search
from hw.units.centroid_search import CentroidLoad, CentroidSearch, search_latency
from hw.units.vector_reader import VectorReader
from tests.hw.engines import load_config
from tests.hw.formal import prove_held
from tests.hw.streams import run


class Steered(wiring.Component):
    """Centroids and vectors through one input, in program order: a payload is either."""

    def __init__(self, config: Any) -> None:
        self.config = config
        search_unit = CentroidSearch(config)
        self.search_unit = search_unit
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({
                "vector": search_unit.i.payload.shape(),
                "index": 8,
                "load": 1,
            }))),
            "o": Out(stream.Signature(8)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.search = unit = self.search_unit
        wiring.connect(m, unit.o, wiring.flipped(self.o))
        m.d.comb += [
            unit.i.valid.eq(self.i.valid & ~self.i.p.load),
            self.i.ready.eq(self.i.p.load | unit.i.ready),
            unit.i.p.eq(self.i.p.vector),
            unit.load.valid.eq(self.i.valid & self.i.p.load),
            unit.load.index.eq(self.i.p.index),
            unit.load.centroid.eq(self.i.p.vector.elements),
        ]
        return m


ELEMENT = st.one_of(st.sampled_from([-32767, 0, 1, 32767]), st.integers(-32767, 32767))


@given(st.data())
@settings(max_examples=15)
def test_search_equals_golden(draw: Any) -> None:
    chains, length = draw.draw(st.sampled_from([(1, 1), (2, 4), (4, 2), (2, 3)]))
    v = draw.draw(st.sampled_from([1, 2, 4]))
    l2 = draw.draw(st.booleans())
    config = load_config(chains=chains, chain_length=length, vector_length=v)
    codes = config.act_codes_max
    pool = draw.draw(st.lists(ELEMENT, min_size=1, max_size=5))
    rng = np.random.default_rng(draw.draw(st.integers(0, 1000)))
    centroids = rng.choice(pool, (codes, v))
    x = rng.choice([*pool, -32767, 32767], (20, v))
    expected = search(
        x[:, None].astype(np.int16), centroids[None].astype(np.int16), l2
    )[:, 0].tolist()
    sent: list[Any] = [
        {"vector": {"elements": c.tolist(), "first": 0, "l2": 0}, "index": n, "load": 1}
        for n, c in enumerate(centroids)
    ]
    sent += [
        {"vector": {"elements": e.tolist(), "first": int(n == 0), "l2": int(l2)},
         "index": 0, "load": 0}
        for n, e in enumerate(x)
    ]
    gaps, stalls = (draw.draw(st.lists(st.integers(0, 4), max_size=20)) for _ in range(2))
    assert run(Steered(config), sent, len(x), gaps, stalls) == expected


def test_latency_and_ports() -> None:
    config = load_config(chains=4, chain_length=3)
    assert search_latency(config) == 3 + 1 + 2
    assert set(CentroidLoad(config).members) == {"valid", "index", "centroid"}


def test_offered_code_is_held(tmp_path: Path) -> None:
    config = load_config(chains=2, chain_length=2, vector_length=1, l2_search=False)
    prove_held(Steered(config), tmp_path)


class ReaderWithMemory(wiring.Component):
    """A `VectorReader` whose memory grants and answers as the input payload says."""

    def __init__(self) -> None:
        self.reader = VectorReader(load_config(port_bits=64, lanes=16))
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({"address": 16, "grant": 1, "data": 64}))),
            "o": Out(stream.Signature(64)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.reader = reader = self.reader
        wiring.connect(m, reader.o, wiring.flipped(self.o))
        m.d.comb += [
            reader.i.valid.eq(self.i.valid),
            reader.i.payload.eq(self.i.p.address),
            self.i.ready.eq(reader.i.ready),
            reader.memory.request.ready.eq(self.i.p.grant),
            reader.memory.data.eq(self.i.p.data),
        ]
        return m


def test_offered_vector_word_is_held(tmp_path: Path) -> None:
    prove_held(ReaderWithMemory(), tmp_path)
