"""Whole decoders on the smallest hardware: every pass of prefill and decode against golden.

Random weights in the shape of each family. Prompts are odd, longer than a pass and end within it.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil

import numpy as np
import pytest

from compiler.decoder.build import DecoderCompiler
from compiler.decoder.generate import generate
from compiler.decoder.quantize import quantize_decoder
from compiler.decoder.scaling import value_group
from compiler.errors import CompileError
from compiler.frontends import shapes
from compiler.frontends.load import load_model, load_tokenizer
from compiler.image.program import decode_program, steps
from compiler.quant.quantized import SimdLinear
from compiler.quant.scheme import SchemeMap, load_scheme
from compiler.text import CALIBRATION_TEXT, DEFAULT_PROMPT
from hw.isa import LINE_BYTES, Opcode
from hw.presets import load_hardware
from lutrip.cli import main
from sim import decoder_build
from sim.circuit import circuit
from sim.decoder import DecoderRun, GoldenPasses
from sim.decoder_build import open_build
from sim.execute import execute
from sim.passes import PassFile
from sim.records import MemoryModel
from sim.runner import simulate_passes
from tests.sim.shared_ports import SHARED

TINY = load_hardware("tiny")
NARROW = dataclasses.replace(TINY, sum_bits=27, index_bits=4)
PROMPT_TOKENS, NEW_TOKENS = 11, 4
"""Passes of 8 and 3 tokens, then three of one."""
MIX = SchemeMap(
    name="mix", default=load_scheme("simd-w4a8-tiny").default, softmax="log2",
    layers={"q": load_scheme("rowgen-2bit").default, "up": load_scheme("lut2d-gather-tiny").default,
            "down": load_scheme("simd-w4a4-tiny").default})
WIDE_GROUPS = {
    name: SchemeMap(name=name, default=dataclasses.replace(
        load_scheme("lut2d-tiny").default, group_columns=128, gather=name == "fetched"))
    for name in ("streamed", "fetched")}
"""Tables of groups as wide as the lanes of SHARED."""
CASES = {
    "tiny": "simd-w8a8-tiny",
    "tiny-mistral": "rowgen-2bit",
    "tiny-qwen2": "simd-w4a8-tiny",
    "tiny-qwen3": MIX,
    "tiny-opt": "lut2d-tiny",
    "tiny-bloom": "simd-w8a8-tiny",
    "tiny-deep": "simd-w4a4-tiny",
}
DEEP = dataclasses.replace(shapes.SHAPES["tiny"], name="tiny-deep", layers=6)
"""Enough layers for the program to loop over them."""
MIX_PATHS = ("search_steps", "rowgen_rows", "lut_steps", "simd_steps_w4a4", "simd_steps_w4a8",
             "simd_steps_w8a8", "simd_steps_w8l4")


@functools.cache
def compiled(folder, shape, prompt_tokens=PROMPT_TOKENS, new_tokens=NEW_TOKENS, split=False,
             hardware=TINY, scheme=None):
    """Build of a shape; returns its folder, the quantized decoder and the prompt."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(shapes.SHAPES, DEEP.name, DEEP)
        model = load_model(f"shape:{shape}")
    tokenizer, scheme = load_tokenizer("shape:tiny"), scheme or CASES[shape]
    scheme = WIDE_GROUPS.get(scheme, scheme) if isinstance(scheme, str) else scheme
    decoder = quantize_decoder(
        model, load_scheme(scheme) if isinstance(scheme, str) else scheme, hardware,
        tokenizer.encode(CALIBRATION_TEXT)[:64], capacity=prompt_tokens + new_tokens - 1)
    prompt = tokenizer.encode(DEFAULT_PROMPT)[:prompt_tokens]
    path = folder / f"{shape}-{prompt_tokens}-{new_tokens}-{split}-{hardware.digest()}"
    DecoderCompiler(decoder, prompt, new_tokens, split_layers=split).write(
        path, {"model": "shape:tiny", "scheme": decoder.scheme})
    return path, decoder, prompt


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where builds go."""
    return tmp_path_factory.mktemp("decoder")


@pytest.fixture(scope="module")
def run(folder, circuits):
    """Simulate a shape; each once."""

    @functools.cache
    def call(shape):
        return execute(compiled(folder, shape)[0], build_dir=circuits).values

    return call


@pytest.mark.parametrize("shape", CASES)
def test_families_are_bit_exact(run, folder, shape):
    values = run(shape)
    assert values["first_mismatch"] is None
    assert values["bit_exact"]
    assert [row["name"] for row in values["passes"]] == [
        "prefill 0:8", "prefill 8:11", "decode 11", "decode 12", "decode 13"]
    assert all(row["bit_exact"] for row in values["passes"])
    _, decoder, prompt = compiled(folder, shape)
    assert values["token_ids"] == generate(decoder, prompt, NEW_TOKENS)
    assert len(values["token_ids"]) == NEW_TOKENS
    assert all(count for tap, count in values["beats"].items() if tap in (
        "gather", "drain", "quantize", "norm", "softmax", "activate", "store"))


@pytest.mark.parametrize(("shape", "halves"), [("tiny-qwen2", True), ("tiny-opt", False)])
def test_passes_in_halves_are_among_them(folder, shape, halves):
    assert open_build(compiled(folder, shape)[0]).metadata["halves"] == halves


@pytest.mark.parametrize("shape", ["tiny-qwen3", "tiny-opt", "tiny-bloom"])
def test_narrow_sums_are_bit_exact(folder, circuits, shape):
    path, decoder, prompt = compiled(folder, shape, hardware=NARROW)
    _, wide, _ = compiled(folder, shape)
    shifts = [(part.layer(0).linears["o"].shift, part.head.shift) for part in (decoder, wide)
              if isinstance(part.layer(0).linears["o"], SimdLinear)]
    assert not shifts or all(one > other for one, other in zip(*shifts, strict=True))
    values = execute(path, build_dir=circuits).values
    assert values["first_mismatch"] is None
    assert values["bit_exact"]
    assert values["token_ids"] == generate(decoder, prompt, NEW_TOKENS)


@pytest.mark.parametrize(("shape", "scheme"), [
    ("tiny-mistral", "rowgen-2bit"), ("tiny-opt", "streamed")])
def test_ports_that_lanes_share_are_bit_exact(folder, circuits, shape, scheme):
    """Rows, computed or from tables, come through them; keys and values of attention do not."""
    path, decoder, prompt = compiled(folder, shape, hardware=SHARED, scheme=scheme)
    values = execute(path, build_dir=circuits).values
    assert values["first_mismatch"] is None
    assert values["bit_exact"]
    assert values["token_ids"] == generate(decoder, prompt, NEW_TOKENS)
    words = [values["counters"][f"read_words_w{port}"] for port in range(SHARED.weight_ports)]
    assert len(set(words[:4])) == len(set(words[4:])) == 1
    assert 0 < words[4] != words[0]


def test_shared_ports_fetch_no_rows(folder):
    with pytest.raises(CompileError, match=r"fetches no rows \(gather\), as lanes share its 6"):
        compiled(folder, "tiny-opt", hardware=SHARED, scheme="fetched")


def test_every_data_path_and_log2_softmax(run):
    counters = run("tiny-qwen3")["counters"]
    assert all(counters[name] for name in MIX_PATHS)
    assert run("tiny")["counters"]["simd_steps_w8l4"] == 0


def test_layers_are_a_loop(run, folder):
    path, *_ = compiled(folder, "tiny-deep")
    build = open_build(path)
    stored = decode_program(build.memory[build.passes[-1].program_address:])
    (loop,) = [fields for opcode, fields in stored if opcode == Opcode.LOOP]
    assert loop["count"] == DEEP.layers - 2
    assert loop["first_stride"] > 0
    assert loop["second_stride"] > 0
    assert len(list(steps(stored))) > len(stored)
    assert run("tiny-deep")["instructions"] > 5 * len(stored)
    named = [op for op in build.passes[-1].instructions if not op.startswith("layers.")]
    assert set(named) == {"embedding", "final_norm", "head_input.quantize", "head.simd",
                          "head.dequantize", "next_token"}


def test_memory_timing_changes_no_result(run, folder, circuits):
    path, *_ = compiled(folder, "tiny")
    slow = MemoryModel(latency_cycles=150, bytes_per_cycle=2.5, outstanding=1)
    before = run("tiny")
    after = execute(path, memory=slow, build_dir=circuits).values
    assert after["bit_exact"]
    assert after["resumed_passes"] == 0
    assert after["token_ids"] == before["token_ids"]
    assert after["beats"] == before["beats"]
    assert after["cycles"] > 1.5 * before["cycles"]


def chosen_passes(path, first_positions, circuits):
    """Records of some passes by position, the others left to golden."""
    build = open_build(path)
    chosen = [item for item in build.passes if item.first in first_positions]
    run = DecoderRun(build.passes, chosen, PassFile(path / "chosen.jsonl", "key"), resume=False)
    sources = circuit(TINY, circuits)

    def simulate(jobs, running, finished):
        simulate_passes(sources, TINY, path / "image.bin", jobs, path / "chosen",
                        build_dir=circuits / "sim", running=running, finished=finished)

    run.run(GoldenPasses(build.memory, TINY), simulate)
    assert run.complete
    return {build.passes[index].first: record for index, record in run.records.items()}


def test_decode_cycles_grow_with_context(folder, circuits):
    path, decoder, _ = compiled(folder, "tiny", 30, 37)
    records = chosen_passes(path, (30, 31, 32, 63, 64), circuits)
    architecture = decoder.architecture
    rows = architecture.layers * architecture.heads

    def attention_steps(position):
        """Steps of scores and mixtures: whole blocks of keys, whole groups of values."""
        blocks, groups = position // TINY.lanes + 1, position // value_group(TINY) + 1
        rounds = blocks * decoder.head_words + groups * value_group(TINY) // TINY.word_elements
        return rows * rounds * TINY.chunks_per_word

    counted = {place: record.counters["simd_steps_w8a8"] for place, record in records.items()}
    others = counted[30] - attention_steps(30)
    assert others > 0
    assert counted == {place: others + attention_steps(place) for place in records}
    cycles = {place: record.cycles for place, record in records.items()}
    assert cycles[30] < cycles[32] < cycles[63] < cycles[64]
    assert abs(cycles[31] - cycles[30]) < cycles[32] - cycles[31]
    assert cycles[64] - cycles[63] >= attention_steps(64) - attention_steps(63)


def test_sampled_layers(folder, circuits, capsys):
    path, decoder, prompt = compiled(folder, "tiny-deep", 9, 2, True)
    arguments = ["simulate", str(path), "--build-dir", str(circuits)]
    assert main([*arguments, "--sample-layers", "1,4"]) == 0
    printed = capsys.readouterr().out
    assert "layer 1, layer 4 ran in RTL" in printed
    assert "the other layers, embedding and head are golden's" in printed
    values = execute(path, build_dir=circuits, sample_layers=[1, 4]).values
    assert values["resumed_passes"] == 2 * 3
    assert {row["layer"] for row in values["passes"] if row["simulated"]} == {1, 4}
    assert sum(row["simulated"] for row in values["passes"]) == 2 * 3
    assert values["token_ids"] == generate(decoder, prompt, 2)


def test_a_wrong_weight_is_located(folder, circuits, monkeypatch):
    path, *_ = compiled(folder, "tiny-deep", 9, 2)
    build = open_build(path)
    item = build.passes[1]
    place, fields = next(
        (step.index, step.fields) for step in steps(decode_program(
            build.memory[item.program_address:]))
        if step.opcode == Opcode.SIMD and step.iteration == 2
        and item.instructions[step.index].endswith(".up.simd"))
    # Int4 weights lie behind the scales of their group: the sign of all of a column's first ones.
    first = fields["address"] * LINE_BYTES + 2 * TINY.port_columns
    image = np.frombuffer((path / "image.bin").read_bytes(), np.uint8).copy()
    image[first:first + TINY.port_columns * TINY.simd_depth // 2] ^= 0x88
    wrong = folder / "wrong.bin"
    wrong.write_bytes(image.tobytes())
    original = decoder_build.simulate_passes

    def simulate_wrong(sources, config, _, *arguments, **options):
        return original(sources, config, wrong, *arguments, **{**options, "image_key": None})

    monkeypatch.setattr(decoder_build, "simulate_passes", simulate_wrong)
    values = execute(path, build_dir=circuits, resume=False).values
    assert not values["bit_exact"]
    assert values["failed_pass"] == "prefill 0:8"
    found = values["first_mismatch"]
    assert (found["pass"], found["layer"], found["iteration"]) == ("prefill 0:8", 3, 2)
    assert (found["opcode"], found["op"]) == ("DRAIN", "layers.3.up.dequantize")
    assert found["instruction"] > place
    assert found["expected"] != found["got"]


def test_positions_beyond_the_capacity(folder, capsys):
    needed = len(load_tokenizer("shape:tiny").encode("ab c")) + 2
    arguments = ["compile", "--model", "shape:tiny", "--hw", "tiny", "--scheme", "simd-w8a8-tiny",
                 "--prompt", "ab c", "--new-tokens", "3", "--out", str(folder / "small")]
    assert main([*arguments, "--capacity", str(needed - 1)]) == 2
    error = capsys.readouterr().err
    assert error == (f"lutrip: error: {needed} positions exceed the key-value capacity of "
                     f"{needed - 1}; give a larger --capacity\n")
    assert not (folder / "small").exists()
    assert main([*arguments, "--capacity", str(needed)]) == 0
    shutil.rmtree(folder / "small")
