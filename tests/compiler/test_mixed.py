"""Mixed precision: schemes by layer, costs of a real image, sensitivities, the solver."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.decoder.build import DecoderCompiler
from compiler.frontends.load import load_model, load_tokenizer
from compiler.image.image import map_image
from compiler.image.program import decode_program
from compiler.mixed import measure as measuring
from compiler.mixed.costs import CYCLES, linear_cost, read_bytes
from compiler.mixed.counters import MODELS, START_CYCLES, Timing, instruction_counters
from compiler.mixed.measure import Question, measure
from compiler.mixed.mixes import mix_yaml, predicted_losses, problem_of, shared_options, spans
from compiler.mixed.sensitivity import Sensitivity, relative_error, trace_measure
from compiler.mixed.solver import Choice, Problem, Selection, front, pareto, solve
from compiler.mixed.spread import log_probabilities, losses_of_errors
from compiler.quant.layer_keys import LayerKey, layer_key, narrowest
from compiler.quant.scheme import LINEARS, SchemeMap, load_scheme
from compiler.text import CALIBRATION_TEXT, DEFAULT_PROMPT
from hw.errors import ConfigError, LutripError
from hw.isa import FIELDS, Opcode, SimdMode
from hw.presets import load_hardware
from tests.verify.decoder_checks import check_machine
from tests.verify.random_decoders import cases, hardware_pool, linear_schemes

TINY = load_hardware("tiny")
NAMES = ("simd-w4a8-tiny", "simd-w8a8-tiny", "lut2d-tiny", "rowgen-2bit")
SCHEMES = {name: load_scheme(name) for name in NAMES}
W4, W8, LUT, ROWGEN = (SCHEMES[name].default for name in NAMES)


def test_keys():
    assert layer_key("29.down") == LayerKey(29, 29, "down")
    assert layer_key("0-4.q") == LayerKey(0, 4, "q")
    values = {"q": "kind", "2-9.q": "long", "4-6.q": "short", "6-8.q": "later", "5.q": "one"}
    assert [narrowest(values, "q", layer, "default") for layer in (0, 3, 4, 5, 6, 8, 10)] == [
        "kind", "long", "short", "one", "later", "later", "kind"]
    assert narrowest(values, "k", 5, "default") == "default"


@pytest.mark.parametrize(("text", "message"), [
    ("layers:\n  4-2.q: lut2d\n",
     "layers: '4-2.q' names no layers: the first comes behind the last"),
    ("layers:\n  a.q: lut2d\n", "layers: 'a.q' names no linear; write down, 29.down or 0-4.down"),
    ("layers:\n  3.dwn: lut2d\n", "unknown key 'dwn'; did you mean down?"),
])
def test_wrong_keys(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(f"kind: mix\ndefault: lut2d\n{text}")
    with pytest.raises(ConfigError) as error:
        load_scheme(str(path))
    assert str(error.value) == f"{path}: {message}"


def test_schemes_of_a_linear():
    mix = SchemeMap(name="mix", default=W4, layers={"0-1.q": LUT, "down": W8, "1.down": ROWGEN})
    assert (mix.of("q", 1), mix.of("q", 2), mix.of("down", 0), mix.of("down", 1)) == (
        LUT, W4, W8, ROWGEN)
    assert mix.every("q") == [W4, LUT]
    assert mix.every("down") == [W8, ROWGEN]
    mix.check_layers(2)
    with pytest.raises(ConfigError, match=r"^scheme mix names layer 1, the"):
        mix.check_layers(1)


def random_mix(draw, case):
    """The case with more layers and schemes for some of their linears."""
    layers = draw(st.integers(3, 8))
    keys = {}
    for _ in range(draw(st.integers(1, 3))):
        first = draw(st.integers(0, layers - 1))
        key = f"{first}-{draw(st.integers(first, layers - 1))}.{draw(st.sampled_from(LINEARS))}"
        keys[key] = draw(linear_schemes(case.hardware))
    return dataclasses.replace(
        case, architecture=dataclasses.replace(case.architecture, layers=layers),
        scheme=dataclasses.replace(case.scheme, layers=keys, token_rule=None))


@settings(max_examples=6)
@given(data=st.data())
def test_programs_compute_what_golden_does(data, tmp_path_factory):
    case = random_mix(data.draw, data.draw(cases(hardware_pool(7, 4))))
    refusal = ""
    try:
        check_machine(case.quantize(), case.prompt(), case.new_tokens,
                      tmp_path_factory.mktemp("build"), split_layers=case.split_layers)
    except LutripError as error:
        refusal = str(error)
    assert "\n" not in refusal


def choices_of(values):
    """Choices and preparation costs of drawn numbers: by linear, by candidate."""
    choices = [Choice(linear=linear, candidate=str(candidate), loss=loss, cost=cost,
                      preparation=("input", linear // 2, shared))
               for linear, row in enumerate(values)
               for candidate, (loss, cost, shared) in enumerate(row)]
    return choices, {choice.preparation: 3.0 + choice.preparation[2] for choice in choices}


def all_selections(problem):
    by_linear = [[c.candidate for c in problem.choices if c.linear == linear]
                 for linear in problem.linears]
    return [problem.selection(dict(zip(problem.linears, chosen, strict=True)))
            for chosen in itertools.product(*by_linear)]


candidate = st.tuples(st.integers(0, 40).map(float), st.integers(1, 30).map(float),
                      st.integers(0, 1))


@settings(max_examples=25)
@given(values=st.lists(st.lists(candidate, min_size=1, max_size=3), min_size=1, max_size=5),
       part=st.floats(0, 1))
def test_solver_against_every_selection(values, part):
    problem = Problem(*choices_of(values))
    every = all_selections(problem)
    least = min(point.cost for point in every)
    assert problem.cheapest().cost == least
    budget = least + part * (max(point.cost for point in every) - least) + 1e-6
    best = min(point.loss for point in every if point.cost <= budget)
    found = problem.solve(budget, gap=0.0)
    assert found.cost <= budget
    assert found.loss == pytest.approx(best, abs=1e-3)
    with pytest.raises(LutripError, match="the cheapest one costs"):
        solve(problem, least - 0.5)


def test_a_shared_preparation_is_paid_for_once():
    choices = [Choice(linear=name, candidate=scheme, loss=loss, cost=cost, preparation=scheme)
               for name in "qk" for scheme, loss, cost in (("int", 1.0, 10.0), ("lut", 0.0, 5.0))]
    problem = Problem(choices, {"int": 0.0, "lut": 8.0})
    assert problem.selection({"q": "lut", "k": "lut"}).cost == 18
    assert problem.solve(17) is None
    assert problem.cheapest().cost == 18
    assert solve(problem, 22).chosen == {"q": "lut", "k": "lut"}


def test_the_front_is_of_what_no_other_beats():
    points = [Selection(chosen={}, loss=loss, cost=cost)
              for loss, cost in ((3, 1), (2, 2), (2, 3), (4, 2), (1, 9))]
    assert [(point.loss, point.cost) for point in pareto(points)] == [(3, 1), (2, 2), (1, 9)]
    rows = [[(20.0, 1.0, 0), (5.0, 4.0, 0), (1.0, 9.0, 0)]] * 4
    found = front(Problem(*choices_of(rows)), 6)
    costs, losses = [point.cost for point in found], [point.loss for point in found]
    assert costs == sorted(costs)
    assert losses == sorted(losses, reverse=True)
    assert (losses[0], losses[-1]) == (80.0, 4.0)


def test_counters_of_a_simd_by_hand():
    """One block, two groups of 32 inputs, three tokens: 4 rounds of 2 chunks, int4."""
    fields = dict.fromkeys(FIELDS[Opcode.SIMD], 0) | {
        "mode": SimdMode.W4A8, "rounds": 8, "group_rounds": 4, "blocks": 1, "tokens": 3}
    counters = instruction_counters(Opcode.SIMD, fields, TINY, Timing(latency_cycles=2))
    # A port has 16 columns: 32 bytes of scales, 16 x 32 / 2 bytes of weights, 16 bytes a word.
    words = 2 * (2 + 16)
    assert counters["read_words_w0"] == counters["read_words_w1"] == words
    assert counters["weight_words"] == 2 * words
    assert counters["simd_steps_w4a8"] == 2 * 3 * 8
    assert counters["scaler_steps"] == counters["accumulator_steps"] == 2 * 3
    assert counters["operand_reads"] == 2 * 3 * 4
    assert counters[CYCLES] == 2 * 3 * 8 + START_CYCLES
    slow = instruction_counters(Opcode.SIMD, fields, TINY, Timing(bytes_per_cycle=4.0))
    assert slow[CYCLES] == 4 * words + START_CYCLES


def quantized_tiny(scheme, tokens=64):
    from compiler.decoder.quantize import quantize_decoder

    tokenizer = load_tokenizer("shape:tiny")
    return quantize_decoder(load_model("shape:tiny"), scheme, TINY,
                            tokenizer.encode(CALIBRATION_TEXT)[:tokens], capacity=24)


def test_costs_are_those_of_a_real_image(tmp_path):
    mix = SchemeMap(name="mix", default=W4, layers={
        "0.q": LUT, "0.k": LUT, "1.up": ROWGEN, "0.down": W8, "1.o": LUT})
    decoder = quantized_tiny(mix)
    prompt = load_tokenizer("shape:tiny").encode(DEFAULT_PROMPT)[:9]
    metadata = DecoderCompiler(decoder, prompt, 3).write(tmp_path, {})
    memory, _, _ = map_image(tmp_path / "image.bin")
    item = metadata["passes"][-1]
    assert item["tokens"] == 1
    program = decode_program(memory[item["program_address"]:])
    # Every linear of a layer, and the preparation of its input, without attention and the head.
    counted = sum(
        read_bytes(instruction_counters(opcode, fields, TINY, Timing()), TINY)
        for (opcode, fields), op in zip(program, item["instructions"], strict=False)
        if opcode in MODELS and op.startswith("layers.") and ".attention." not in op)
    total, seen = 0.0, []
    for index in range(2):
        layer = decoder.layer(index)
        for name, linear in layer.linears.items():
            cost = linear_cost(linear, name, TINY, 1,
                               tokens_max=-(-metadata["tokens_max"] // (1 + metadata["halves"])))
            total += read_bytes(cost.own, TINY)
            if all(linear.input is not other for other in seen):
                total += read_bytes(cost.preparation, TINY)
                seen.append(linear.input)
    assert total == counted


def test_trace_and_error_by_hand():
    x = np.array([[1, 2], [3, 0]], np.float32)
    assert trace_measure(np.array([[0.5, 0], [0, -1]], np.float32), x) == 14 / 4 * 1.25
    y, reference = np.array([[3, 4], [6, 8]]), np.array([[3, 0], [6, 4]])
    assert relative_error(y, reference) == pytest.approx((16 / 9 + 16 / 52) / 2)


def row(linear, name, output, trace):
    from compiler.mixed.costs import LinearCost

    return Sensitivity(linear=linear, candidate=name, trace=trace, output=output,
                       preparation="p", cost=LinearCost(own={"cycles": 7}, preparation={}))


def test_losses_by_hand():
    """The middle candidate's loss is measured; the others' grow with their errors."""
    measured = measuring.Measured(
        layers=[[row("q", "a", 0.4, 4.0), row("q", "b", 0.2, 1.0), row("q", "c", 0.1, 0.5)]],
        losses={(0, "q"): 0.03})
    assert predicted_losses(measured, "output") == pytest.approx({
        ((0, "q"), "a"): 0.06, ((0, "q"), "b"): 0.03, ((0, "q"), "c"): 0.015})
    assert predicted_losses(measured, "trace") == pytest.approx({
        ((0, "q"), "a"): 0.12, ((0, "q"), "b"): 0.03, ((0, "q"), "c"): 0.015})
    problem = problem_of(measured, "output", lambda counters: counters.get("cycles", 0))
    assert problem.cheapest().cost == 7


def test_divergence_of_errors():
    assert np.exp(log_probabilities(np.array([[0.0, np.log(3)]], np.float32))) == pytest.approx(
        np.array([[0.25, 0.75]]))
    model = load_model("shape:tiny")
    tokens = np.arange(5, 17)
    shape = (len(tokens), model.architecture.width)
    noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)

    def losses(size):
        return losses_of_errors(model, tokens, lambda layer: {"q": size * noise})

    assert losses(0.0) == {(0, "q"): 0.0, (1, "q"): 0.0}
    small, large = losses(0.01), losses(0.02)
    assert all(large[place] == pytest.approx(4 * small[place], rel=0.2) for place in small)


def question(**changes):
    tokenizer = load_tokenizer("shape:tiny")
    return Question(**{
        "model": load_model("shape:tiny"), "hardware": TINY, "options": SCHEMES[NAMES[0]],
        "candidates": {name: SCHEMES[name].default for name in NAMES[:2]},
        "calibration": tokenizer.encode(CALIBRATION_TEXT)[:48],
        "unseen": tokenizer.encode(DEFAULT_PROMPT)[:24], "tokens": 1, "timing": Timing(),
        **changes})


def test_measuring_resumes(tmp_path, monkeypatch):
    first = measure(question(), tmp_path)
    assert len(first.layers) == 2
    by_name = {(r.linear, r.candidate): r for r in first.layers[0]}
    assert len(by_name) == 14
    for linear in LINEARS:
        fine, coarse = (by_name[linear, name] for name in ("simd-w8a8-tiny", "simd-w4a8-tiny"))
        assert fine.output < coarse.output / 4
        assert fine.trace < coarse.trace / 50
        assert read_bytes(fine.cost.own, TINY) > 1.5 * read_bytes(coarse.cost.own, TINY)
    assert min(first.losses.values()) > 0

    def fail(*_):
        raise AssertionError

    monkeypatch.setattr(measuring.LayerSensitivity, "measure", fail)
    assert measure(question(), tmp_path) == first
    with pytest.raises(AssertionError):
        measure(question(tokens=2), tmp_path)


@given(data=st.data())
@settings(max_examples=20)
def test_scheme_files_say_what_was_chosen(data, tmp_path_factory):
    layers = data.draw(st.integers(1, 6))
    chosen = {(layer, linear): data.draw(st.sampled_from(NAMES))
              for layer in range(layers) for linear in LINEARS}
    options = dataclasses.replace(SCHEMES[NAMES[0]], softmax="log2")
    path = tmp_path_factory.mktemp("mix") / "mix.yaml"
    path.write_text(mix_yaml(chosen, options, "made by hand"))
    mix = load_scheme(str(path))
    assert mix.softmax == "log2"
    assert {place: mix.of(place[1], place[0]).name for place in chosen} == chosen


def test_spans_and_options():
    assert spans(["a", "a", "b", "c", "c"]) == [("0-1", "a"), ("2", "b"), ("3-4", "c")]
    log2 = dataclasses.replace(SCHEMES[NAMES[1]], softmax="log2")
    with pytest.raises(LutripError, match="candidates a and b differ in softmax"):
        shared_options({"a": SCHEMES[NAMES[0]], "b": log2})
    with pytest.raises(LutripError, match="candidate m is a mix"):
        shared_options({"m": load_scheme("mix-lut-simd")})
