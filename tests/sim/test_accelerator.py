"""The whole accelerator on the smallest hardware: both simulators against golden, one wrong bit.

One layer of random weights with attention projections and feed-forward part, for each data path.
"""

from __future__ import annotations

import functools
import shutil

import numpy as np
import pytest

from compiler.build import compile_block
from compiler.frontends.load import load_model, load_tokenizer
from compiler.image.image import load_image
from compiler.image.program import decode_program
from compiler.quant.scheme import load_scheme
from compiler.text import DEFAULT_PROMPT
from hw.errors import LutripError
from hw.isa import INSTRUCTION_BYTES, LINE_BYTES, Opcode, fields_of
from hw.presets import load_hardware
from sim.circuit import circuit
from sim.functional import run_image
from sim.runner import simulate

TINY = load_hardware("tiny")
MODEL = "shape:tiny"
TOKENS = 7
SCHEMES = ("lut2d-tiny", "lut2d-gather-tiny", "rowgen-2bit", "simd-w4a8-tiny", "simd-w4a4-tiny")
PATHS = ("search_steps", "quantize_steps", "rowgen_rows", "lut_steps", "simd_steps_w4a8",
         "simd_steps_w4a4")
USED = {
    "lut2d-tiny": {"search_steps", "lut_steps"},
    "lut2d-gather-tiny": {"search_steps", "lut_steps"},
    "rowgen-2bit": {"quantize_steps", "rowgen_rows", "lut_steps"},
    "simd-w4a8-tiny": {"quantize_steps", "simd_steps_w4a8"},
    "simd-w4a4-tiny": {"quantize_steps", "simd_steps_w4a4"},
}
"""Which of these counters a scheme's data path raises."""
FLIPPED = {
    "table": "lut2d-tiny", "index": "lut2d-tiny", "codebook": "rowgen-2bit",
    "scale": "simd-w4a8-tiny", "program": "lut2d-tiny", "activation": "simd-w4a8-tiny",
}
"""Kinds of bytes and a scheme that has them."""


@functools.cache
def compiled(scheme):
    """Build of a scheme and what golden makes of it."""
    model, ids = load_model(MODEL), load_tokenizer(MODEL).encode(DEFAULT_PROMPT)
    build = compile_block(model, load_scheme(scheme), TINY, layers=(0, 1), tokens=ids[:TOKENS],
                          calibration=ids[TOKENS + 1:])
    assert build.metadata["parts"] == ["mlp", "qkvo"]
    return build, golden(build, build.image.data)


def golden(build, data):
    return run_image(data, TINY, build.image.program_address).beats


@pytest.fixture(scope="module")
def run(tmp_path_factory, circuits):
    """Run a scheme's program, expecting golden's beats of the image as compiled; each run once."""
    sources = circuit(TINY, circuits)

    @functools.cache
    def call(scheme, simulator="verilator", data=None):
        build, beats = compiled(scheme)
        return simulate(
            sources, TINY, build.image.data if data is None else data,
            build.image.program_address, beats, tmp_path_factory.mktemp("run"),
            simulator=simulator, max_cycles=50_000, build_dir=circuits / "sim",
        )

    return call


@pytest.mark.parametrize("scheme", SCHEMES)
def test_verilator_is_bit_exact(run, scheme):
    result = run(scheme)
    assert result.first_mismatch is None
    assert result.bit_exact
    assert (result.status, result.errors) == ("done", ())
    assert sum(tap.beats for tap in result.taps) > 1000
    assert {name for name in PATHS if result.counters[name]} == USED[scheme]


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs iverilog")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_icarus_does_the_same_in_every_cycle(run, scheme):
    verilator, icarus = run(scheme), run(scheme, "icarus")
    assert icarus.bit_exact
    assert icarus.taps == verilator.taps
    assert icarus.cycles == verilator.cycles
    assert icarus.counters == verilator.counters
    events, others = (result.events.read_text() for result in (verilator, icarus))
    assert events == others


def bits_of(build, kind):
    """Numbers of the image's bits that hold one kind of data of the first instruction using it."""
    start = build.image.program_address
    opcode = {"table": Opcode.LUT, "index": Opcode.LUT, "codebook": Opcode.LUT,
              "scale": Opcode.SIMD, "program": Opcode.DRAIN, "activation": Opcode.LOAD}[kind]
    program = decode_program(build.image.data[start:])
    number = next(place for place, (code, _) in enumerate(program) if code == opcode)
    fields = program[number][1]
    if kind == "program":
        names = list(fields_of(opcode).items())
        before = sum(bits for _, bits in names[:list(fields).index("accumulator") + 1])
        return [8 * (start + number * INSTRUCTION_BYTES) + before]
    first, size = LINE_BYTES * fields["address"], 0
    if kind in ("table", "codebook"):
        size = fields["table_words"] * TINY.port_bytes
    elif kind == "index":
        first += fields["table_words"] * TINY.port_bytes
        size = (fields["record_words"] - fields["table_words"]) * TINY.port_bytes
    elif kind == "scale":
        size = 2 * TINY.lanes // TINY.weight_ports
    else:
        size = fields["words"] * TINY.port_bytes
    return [8 * byte + byte % 8 for byte in range(first, first + size)]


def flip(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@functools.cache
def harmful(kind):
    """Image with one bit of a kind flipped, one that changes a beat, and golden's beats of it."""
    build, beats = compiled(FLIPPED[kind])
    for bit in bits_of(build, kind):
        data = flip(build.image.data, bit)
        wrong = golden(build, data)
        if any(not np.array_equal(wrong[tap].data, beats[tap].data) for tap in beats):
            return data, wrong
    raise AssertionError(f"no {kind} bit matters")


@pytest.mark.parametrize("kind", FLIPPED)
def test_one_wrong_bit_is_located(run, kind):
    _, beats = compiled(FLIPPED[kind])
    data, wrong = harmful(kind)
    result = run(FLIPPED[kind], data=data)
    assert result.status == "done"
    assert not result.bit_exact
    first = result.first_mismatch
    expected, got = beats[first.tap], wrong[first.tap]
    beat = int((expected.data != got.data).any(axis=1).argmax())
    assert (first.kind, first.beat) == ("value", beat)
    assert first.instruction == expected.instruction[beat]
    assert 0 < first.cycle < result.cycles
    assert bytes.fromhex(first.got_data)[::-1] == got.data[beat].tobytes()
    assert bytes.fromhex(first.expected_data)[::-1] == expected.data[beat].tobytes()
    assert f"{first.tap} beat {beat} (instruction {first.instruction}), cycle" in first.describe()


@pytest.mark.parametrize("kind", FLIPPED)
def test_one_wrong_bit_in_a_file_is_refused(kind, tmp_path):
    data, _ = harmful(kind)
    path = tmp_path / "image.bin"
    path.write_bytes(data)
    section = {"program": "program", "activation": "activations"}.get(kind, "constants")
    with pytest.raises(LutripError, match=f"the checksum of section {section} is wrong") as caught:
        load_image(path)
    assert "\n" not in str(caught.value)
