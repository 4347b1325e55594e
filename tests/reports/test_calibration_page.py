"""The page of calibration statistics: whole, self-contained, numbers as computed."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from compiler.calibration_text import calibration_excerpt
from compiler.frontends.load import load_model
from compiler.frontends.tokenizer import bytes_tokenizer
from compiler.statistics.collect import LINEARS_OF, collect, windows_of
from reports.calibration import headline, render, text_rows
from reports.page import write_page
from tests.reports.test_decoder_page import shown
from tests.reports.test_page import check_page


@pytest.fixture(scope="module")
def values():
    """Statistics of the tiny model, as they are read back from the file."""
    model = load_model("shape:tiny").in_memory()
    ids = calibration_excerpt(bytes_tokenizer(), "builtin", 96).ids
    texts = {"builtin": windows_of(model, ids, 32), "a <b>.txt": windows_of(model, ids[::2], 32)}
    layers, arrays = collect(model, texts)
    assert all(np.isfinite(array).all() for array in arrays.values())
    facts = [{"source": source, "sha256": "5d" * 32, "first_token": 0,
              "tokens": sum(map(len, windows))} for source, windows in texts.items()]
    return json.loads(json.dumps({
        "model": "shape:tiny", "architecture": "tiny", "window_tokens": 32, "texts": facts,
        "linears_of": LINEARS_OF, "layers": layers, "robustness": []}))


def test_page(values, tmp_path):
    row = {"calibration": "builtin", "scheme": "simd-w4a8", "perplexity": 34.5678,
           "perplexity_float": 33.25, "relative": 0.0396, "top1_agreement": 0.913,
           "kl_divergence_nats": 0.0465, "predictions": 3066,
           "text": {"source": "news", "description": "Lee news", "first_token": 0, "tokens": 3072}}
    text, pictures = render({**values, "robustness": [row]})
    page = write_page(tmp_path, text, pictures)
    checker = check_page(page.read_text())
    assert len(checker.sources) == len(pictures) == 6
    assert (tmp_path / "figures" / "robustness.png").read_bytes().startswith(b"\x89PNG")
    headings = re.findall(r'<th class="n">(.*?)</th>', text, re.DOTALL)
    assert all('class="tag ' in heading for heading in headings)
    plain = shown(text)
    for words in ("Calibration of shape:tiny", "on 96 tokens of builtin in windows of 32",
                  "against builtin", "a <b>.txt", "+3.96 %", "34.568", "0.0465", "3,066",
                  "simd-w4a8, quantized on each text", "Float: 33.250", "gate, up"):
        assert words in plain
    assert "<b>.txt" not in text


def test_one_text_is_enough(values):
    alone = {**values, "texts": values["texts"][:1],
             "layers": [{**layer, "texts": {}} for layer in values["layers"]]}
    text, pictures = render(alone)
    check_page(text)
    assert len(pictures) == 5
    assert "against" not in shown(text)


def test_headline_names_the_extremes(values):
    layers = json.loads(json.dumps(values["layers"]))
    layers[1]["inputs"]["mlp_hidden"].update(peak_over_sigma=81.25, kurtosis=1234.5)
    layers[0]["massive"]["peak"] = 2e4
    layers[0]["massive"]["largest"][0].update(channel=7, position=3)
    layers[1]["texts"]["a <b>.txt"]["inputs"]["attention_output"]["hessian_cosine"] = 0.125
    facts = {fact.label: fact for fact in headline({**values, "layers": layers})}
    assert facts["largest outlier"].value == "81.2 sigma"
    assert facts["largest outlier"].note == "input of down, layer 1"
    assert facts["highest kurtosis"].note.startswith("input of down, layer 1")
    assert "behind layer 0, channel 7, position 3" in facts["largest residual"].note
    row, = text_rows({**values, "layers": layers})
    assert (row["least"], row["where"]) == (0.125, "o, layer 1")
