"""From a beat back to the element that it holds."""

from __future__ import annotations

import pytest

from compiler.image.program import Step
from hw.isa import DrainMode, Opcode
from hw.presets import load_hardware
from sim.compare import Mismatch
from sim.locate import element, layer_of, locate, operation

TINY = load_hardware("tiny")
HEADS = {"tokens": 3, "heads": 2, "stride": 40, "head_stride": 10}


@pytest.mark.parametrize(("opcode", "fields", "address", "byte", "expected"), [
    (Opcode.LOAD, {"destination": 7}, 9, 5, [18]),
    (Opcode.STORE, {"address": 3}, 192 + 32, 4, [18]),
    (Opcode.APPEND, {"address": 3}, 192 + 32, 4, [36]),
    (Opcode.SEARCH, {"operands": 4, "tokens": 3}, 4 + 5, 6, [2, 14]),
    (Opcode.QUANTIZE, {"operands": 4, "tokens": 3, "heads": 1, "int4": 1}, 4 + 5, 6, [1, 22]),
    (Opcode.QUANTIZE, {"operands": 4, "tokens": 3, "heads": 2, "int4": 0}, 4 + 5, 6, [5, 6]),
    (Opcode.SOFTMAX, {"operands": 4, "tokens": 3, "heads": 2}, 4 + 7, 0, [1, 8]),
    (Opcode.ACTIVATE, {"destination": 5, "tokens": 3, "stride": 40, "words": 9}, 5 + 83, 3,
     [2, 25]),
    (Opcode.DRAIN, {**HEADS, "destination": 5, "words": 9, "mode": DrainMode.VECTOR}, 5 + 93, 3,
     [5, 25]),
    (Opcode.DRAIN, {**HEADS, "destination": 5, "words": 4, "mode": DrainMode.RESIDUAL}, 5 + 93, 3,
     [5, 9]),
    (Opcode.DRAIN, {**HEADS, "destination": 5, "words": 9, "mode": DrainMode.ARGMAX}, 5, 4, [1]),
    (Opcode.GATHER, {"destination": 5, "tokens": 3, "stride": 40, "words": 4}, 5 + 82, 2, [2, 9]),
    (Opcode.ROPE, {**HEADS, "source": 5, "words": 9}, 5 + 12, 2, [1, 17]),
    (Opcode.HADAMARD, {**HEADS, "source": 5, "words": 9}, 5 + 40, 3, [2, 1]),
    (Opcode.NORM, {**HEADS, "source": 0, "words": 2, "destination": 5, "destination_stride": 4,
                   "destination_head_stride": 2}, 5 + 11, 2, [5, 9]),
])
def test_element(opcode, fields, address, byte, expected):
    assert element(opcode, fields, address, byte, TINY) == expected


def test_iterations_of_a_loop_are_layers():
    assert operation("layers.1.q", 0) == "layers.1.q"
    assert operation("layers.1.mlp.2", 11) == "layers.12.mlp.2"
    assert operation("embedding", 3) == "embedding"
    assert layer_of("layers.12.q") == 12
    assert layer_of("next_token") is None


def test_locate():
    fields = {**HEADS, "destination": 5, "words": 9, "mode": DrainMode.VECTOR}
    steps = [Step(0, 0, Opcode.LOAD, {}), Step(2, 4, Opcode.DRAIN, fields)]
    data, wrong = "00" * 12 + "fffe0102", "00" * 12 + "fffd0102"
    mismatch = Mismatch(
        tap="drain", kind="value", beat=3, instruction=1, cycle=99, byte=2, expected_address=5,
        got_address=5, expected_data=data, got_data=wrong)
    place = locate(mismatch, steps, ["load", "loop", "layers.1.q"], TINY)
    assert place["detail"] == mismatch.describe()
    del place["detail"]
    assert place == {
        "instruction": 2, "opcode": "DRAIN", "op": "layers.5.q", "layer": 5, "iteration": 4,
        "element": [0, 1], "expected": -2, "got": -3, "cycle": 99,
    }
