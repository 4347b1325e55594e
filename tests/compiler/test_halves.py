"""Halves of a pass: which passes are cut, how, and that no half touches what is the other's."""

from __future__ import annotations

import dataclasses

import pytest

from compiler.decoder.pass_size import worthwhile_part
from compiler.frontends.shapes import SHAPES
from compiler.image.access import Space, accesses
from compiler.image.program import Task
from compiler.lower.allocate import WHOLE, Allocator, OutOfSpaceError, Share
from compiler.lower.attention import Span
from compiler.lower.halves import START_CYCLES, Halves, steps_and_words, worthwhile_tokens
from compiler.quant.scheme import load_scheme
from compiler.structure import structural_decoder
from hw.isa import ENGINE_OF, Engine, Opcode
from hw.presets import load_hardware
from sim.estimate.plan import Planner

STORES = (Space.VECTOR, Space.OPERAND, Space.SCALES, Space.ALPHAS)


def planner(hardware="sim", scheme="simd-w4a8", shape="smollm2-135m", prompt=40, **changes):
    config = dataclasses.replace(load_hardware(hardware), **changes)
    return Planner(structural_decoder(
        SHAPES[shape], load_scheme(scheme), config, prompt + 2), prompt, 3)


@pytest.mark.parametrize(("halves", "tokens", "cut"), [
    (Halves(8), 8, [8]), (Halves(8, 2, 4), 8, [4, 4]), (Halves(8, 2, 4), 7, [4, 3]),
    (Halves(76, 2, 4), 76, [40, 36]),
    (Halves(8, 2, 4), 4, [2, 2]), (Halves(8, 2, 4), 3, [3]), (Halves(8, 2, 8), 4, [4]),
    (Halves(8, 2, 8), 5, [3, 2]), (Halves(3, 2, 2), 1, [1]),
])
def test_parts(halves, tokens, cut):
    spans = halves.spans(Span(10, tokens))
    assert [span.tokens for span in spans] == cut
    assert [spans[0].position, spans[-1].end] == [10, 10 + tokens]
    assert all(span.tokens <= halves.part_tokens for span in spans)


def test_shares_of_a_store():
    stores = [Allocator("store", 21, Share(part, 2), reserved=5) for part in range(2)]
    assert [(store.first, store.end) for store in stores] == [(5, 13), (13, 21)]
    assert [store.allocate(8) for store in stores] == [5, 13]
    with pytest.raises(OutOfSpaceError) as error:
        stores[1].allocate(1)
    # What both halves hold and need, and what is nobody's, is more than there is.
    assert (error.value.held, error.value.needed, error.value.size) == (5 + 2 * 8 + 1, 1, 21)
    stores[0].free(5)
    stores[0].reset()
    assert stores[0].allocate(3) == 5
    assert Allocator("store", 4, WHOLE).allocate(4) == 0


def test_products_and_words_by_hand():
    config = load_hardware("tiny")
    fields = {"rounds": 3, "blocks": 2, "slices": 1, "record_words": 5, "table_words": 4, "mode": 0,
              "blocks_per_group": 2, "int4": 0, "rows_per_code": 1, "bundle_words": 1,
              "index_high": 0}
    stream = Task(opcode=Opcode.LUT, op="x", fields=fields)
    gather = Task(opcode=Opcode.LUT, op="x", fields={**fields, "mode": 1})
    assert steps_and_words(stream, config)[0] == 6
    words = steps_and_words(stream, config)[1]
    assert words - steps_and_words(gather, config)[1] == 3 * config.positions_per_port * 4
    attention = Task(opcode=Opcode.SIMD, op="x", fields={"volatile": 1})
    assert worthwhile_tokens([stream, attention], config) == -(-(words + START_CYCLES) // 6)
    assert worthwhile_tokens([], config) == 1


@pytest.mark.parametrize(("hardware", "scheme", "shape"), [
    ("sim", "simd-w4a8", "smollm2-135m"), ("sim", "rowgen-2bit", "smollm2-135m"),
    ("v80", "lut2d-int4", "qwen3-1.7b"), ("tiny", "simd-w4a8-tiny", "tiny")])
def test_halves_share_nothing(hardware, scheme, shape):
    """But for the residual, each in its own rows, what they hold on chip is apart."""
    made = planner(hardware, scheme, shape)
    emitter, layer = made.emitter, made.decoder.layer(0)
    assert made.halves.parts == 2
    stages = emitter.graphs.layer(layer)
    spans = made.halves.spans(made.spans[0])
    touched: list[dict[Space, set[int]]] = []
    for half in stages.emitters(made.halves, spans):
        context, room = half.context, {}
        for space, store in zip(STORES, (context.vector, context.store, context.scales,
                                         context.alphas), strict=True):
            room[space] = set(range(store.first, store.end))
        first = half.room.residual.start
        room[Space.VECTOR] |= set(range(first, first + half.tokens * half.room.residual.stride))
        touched.append(room)
    for space in STORES:
        assert not touched[0][space] & touched[1][space]
    for stage in emitter.stages(layer, made.spans[0]):
        used: dict[Space, set[int]] = {}
        for task in stage.tasks:
            fields = {**task.fields, "address": 0}
            for access in accesses(task.opcode, fields, made.config):
                if access.space in STORES:
                    used.setdefault(access.space, set()).update(access.words().tolist())
        halves = {half for half, room in enumerate(touched)
                  for space, words in used.items() if words & room[space]}
        assert len(halves) <= 1, stage.tasks[0].op
        for space, words in used.items():
            assert words <= touched[max(halves)][space]


def test_products_alternate_between_the_banks():
    made = planner()
    tasks = [task for stage in made.emitter.stages(made.decoder.layer(0), made.spans[0])
             for task in stage.tasks if ENGINE_OF[task.opcode] == Engine.LINEAR]
    banks = [task.fields["bank"] for task in tasks]
    assert banks == [index % 2 for index in range(len(banks))]


def test_few_tokens_are_not_cut():
    part = worthwhile_part(made := planner().decoder, planner().make_emitter)
    assert part > 1
    assert made.hardware.tokens_max > 2 * part
    assert planner(prompt=2 * part - 1).halves.parts == 1
    assert planner(prompt=2 * part).halves == Halves(2 * part, 2, 2 * part)


def test_a_token_rule_ranks_whole_passes():
    assert planner("tiny", "simd-w4a4-agile-tiny", "tiny").halves.parts == 1
