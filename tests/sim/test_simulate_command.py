"""What `lutrip simulate` takes and says beside the simulation itself."""

from __future__ import annotations

import json

import pytest

from hw.errors import LutripError
from lutrip.commands.simulate import Display, layer_list, left, verdict
from sim.decoder_build import Timelines
from sim.execute import execute, is_decoder
from sim.passes import Pass, PassProgress
from sim.values import overlap_values


def test_layers():
    assert layer_list(None) is None
    assert layer_list("14, 0,14") == [0, 14]
    with pytest.raises(LutripError, match=r"^--sample-layers must be numbers such as 0,14,29, "):
        layer_list("0:3")


def test_time_left():
    assert left(None) == "time left unknown"
    assert left(59.4) == "59 s left"
    assert left(61) == "1 min 1 s left"


def test_display():
    display = Display()
    display.say("building")
    display.show(PassProgress(stage="golden", name="decode 5", passes_done=0, passes=4,
                              tokens_done=0, tokens=9))
    display.show(PassProgress(stage="rtl", name="decode 5", passes_done=1, passes=4,
                              tokens_done=6, tokens=9, cycles=12345, cycles_per_s=1000.4,
                              left_s=12))
    (task,) = display.bar.tasks
    assert (task.description, task.completed, task.total) == ("decode 5", 1, 4)
    assert task.fields["counts"] == "6/9 tokens, 12,345 cycles, 1,000 cycles/s, 12 s left"


def test_verdict(capsys):
    place = {"instruction": 3, "opcode": "DRAIN", "op": "layers.4.q", "element": [0, 1],
             "expected": 1, "got": 2, "cycle": 99}
    assert verdict({"bit_exact": False, "status": "done", "errors": [], "cycles": 7,
                    "first_mismatch": place, "failed_pass": "decode 7"}) == 1
    assert capsys.readouterr().err == (
        "  first mismatch: decode 7: instruction 3 DRAIN layers.4.q, element [0, 1], "
        "expected 1, got 2, cycle 99\n")


def test_a_block_has_no_layers_to_sample(tmp_path):
    (tmp_path / "build.json").write_text(json.dumps({"format": 2}))
    assert not is_decoder(tmp_path)
    with pytest.raises(LutripError, match="--sample-layers needs a build of a whole model"):
        execute(tmp_path, sample_layers=[0])
    (tmp_path / "build.json").write_text(json.dumps({"format": 2, "kind": "decoder"}))
    assert is_decoder(tmp_path)


def test_timelines_of_one_pass_of_each_kind(tmp_path):
    events = tmp_path / "events_0.txt"
    kept = Timelines(tmp_path)
    names = ("prefill 0:8 embedding", "prefill 0:8", "prefill 8:9", "decode 9", "decode 10")
    for index, name in enumerate(names):
        events.write_text(name)
        kept.keep(Pass(index=index, name=name, first=0, tokens=1, layer=None, program_address=0,
                       token_slot=None, instructions=[]), events)
    assert [(index, path.read_text()) for index, path in kept.kept()] == [
        (1, "prefill 0:8"), (3, "decode 9")]
    kept.forget()
    assert kept.kept() == []


def test_overlap():
    activity = {"linear_cycles": 80, "linear_beside_others_cycles": 20, "weight_cycles": 50,
                "weight_beside_linear_cycles": 40}
    values = overlap_values(activity, {"prefetched_words": 3})
    assert values == {**activity, "others_busy": 0.25, "weights_arriving": 0.5,
                      "weights_beside_linear": 0.8, "prefetched_words": 3}
