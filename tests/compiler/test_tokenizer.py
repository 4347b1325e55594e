"""Tokenizers: splits as llama.cpp makes them, round trips, bad vocabularies."""

import json
from pathlib import Path

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, trainers

from compiler.errors import FrontendError
from compiler.frontends.gguf import open_gguf
from compiler.frontends.load import load_tokenizer
from compiler.frontends.tokenizer import (
    Tokenizer,
    bytes_tokenizer,
    gguf_tokenizer,
    json_tokenizer,
)
from compiler.text import DEFAULT_PROMPT

SPECIALS = ["<|end|>", "<|start|>"]
SPLIT_TEXT = "It's 2024:\n\n  I'LL go  !!\r\n\tCafé"
EXPECTED_SPLITS = {
    "gpt-2": ["It", "'s", " 2024", ":", "\n\n ", " I", "'", "LL", " go", " ", " !!", "\r\n",
              "\t", "Café"],
    "smollm": ["It", "'s", " ", "2", "0", "2", "4", ":", "\n\n ", " I", "'", "LL", " go", " ",
               " !!", "\r\n", "\t", "Café"],
    "llama-bpe": ["It", "'s", " ", "202", "4", ":\n\n", " ", " I", "'LL", " go", " ", " !!\r\n",
                  "\tCafé"],
    "qwen2": ["It", "'s", " ", "2", "0", "2", "4", ":\n\n", " ", " I", "'LL", " go", " ",
              " !!\r\n", "\tCafé"],
}
"""GPT-2's regular expressions know no upper-case contractions; the later ones do."""


def trained() -> tuple[list[str], list[str]]:
    """Tokens and merges of a small byte-level BPE; the special tokens come first."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=SPECIALS, show_progress=False,
                                  initial_alphabet=alphabet)
    backend.train_from_iterator([DEFAULT_PROMPT], trainer)
    vocabulary = backend.get_vocab()
    merges = json.loads(backend.to_str())["model"]["merges"]
    return sorted(vocabulary, key=vocabulary.__getitem__), [" ".join(pair) for pair in merges]


TOKENS, MERGES = trained()


def write_vocabulary(
    path: Path, kind: str = "gpt2", split: str = "smollm", tokens: list[str] | None = None,
    merges: list[str] | None = None, begins: bool | None = None,
) -> Path:
    tokens = TOKENS if tokens is None else tokens
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(kind)
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in SPECIALS else 1 for token in tokens])
    writer.add_token_merges(MERGES if merges is None else merges)
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(1)
    if begins is not None:
        writer.add_add_bos_token(begins)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def read(path: Path) -> Tokenizer:
    return gguf_tokenizer(open_gguf(path), path)


@pytest.mark.parametrize("split", EXPECTED_SPLITS)
def test_splits(tmp_path, split):
    tokenizer = read(write_vocabulary(tmp_path / "v.gguf", split=split))
    parts = tokenizer.backend.pre_tokenizer.pre_tokenize_str(SPLIT_TEXT)
    assert [SPLIT_TEXT[begin:end] for _, (begin, end) in parts] == EXPECTED_SPLITS[split]
    assert tokenizer.decode(tokenizer.encode(SPLIT_TEXT)) == SPLIT_TEXT


def test_special_tokens_and_ends(tmp_path):
    tokenizer = read(write_vocabulary(tmp_path / "v.gguf", begins=True))
    tokens = tokenizer.encode("<|start|>many plants<|end|>")
    assert tokens[:2] == [1, 1]
    assert tokens[-1] == tokenizer.end == 0
    assert tokenizer.decode(tokens) == "many plants"
    assert tokenizer.vocabulary == len(TOKENS)
    assert read(write_vocabulary(tmp_path / "n.gguf")).encode("a")[0] != 1
    assert read(write_vocabulary(tmp_path / "l.gguf", split="llama-bpe")).encode("a")[0] == 1


@pytest.fixture(scope="module")
def trained_tokenizer(tmp_path_factory):
    return read(write_vocabulary(tmp_path_factory.mktemp("vocabulary") / "v.gguf"))


@given(text=st.text(max_size=40))
def test_round_trip(trained_tokenizer, text):
    assert trained_tokenizer.decode(trained_tokenizer.encode(text)) == text


BYTES = bytes_tokenizer()


@given(text=st.text(max_size=40))
def test_bytes(text):
    assert BYTES.encode(text) == list(text.encode())
    assert BYTES.decode(BYTES.encode(text)) == text


def test_json_tokenizer(tmp_path):
    source = read(write_vocabulary(tmp_path / "v.gguf"))
    (tmp_path / "tokenizer.json").write_text(source.backend.to_str())
    tokenizer = json_tokenizer(tmp_path)
    assert tokenizer.encode(DEFAULT_PROMPT) == source.encode(DEFAULT_PROMPT)
    assert tokenizer.decode(tokenizer.encode(SPLIT_TEXT)) == SPLIT_TEXT


def test_bad_vocabularies(tmp_path):
    path = tmp_path / "v.gguf"
    for arguments, expected in (
        ({"kind": "bert"}, "tokenizer 'bert' is not supported; supported are gpt2 and llama"),
        ({"split": "viking"}, "pre-tokenizer 'viking' is not supported; supported are llama-bpe"),
        ({"merges": ["no merge"]}, "unusable tokenizer: "),
    ):
        write_vocabulary(path, **arguments)
        with pytest.raises(FrontendError, match=expected):
            read(path)
    with pytest.raises(FrontendError, match=r"tokenizer\.json: missing; put the model's"):
        json_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(FrontendError, match=r"tokenizer\.json: not a usable tokenizer: "):
        json_tokenizer(tmp_path)


def test_sentence_piece(tmp_path):
    letters = ["\u2581", "a", "b", "c"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters,
              "ab", "bc", "\u2581a", "abc"]
    path = tmp_path / "v.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores([-float(number) for number in range(len(pieces))])
    writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * 8])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    tokenizer = read(path)
    tokens = tokenizer.encode("abc é")
    assert [pieces[token] for token in tokens] == [
        "<s>", "\u2581", "abc", "\u2581", "<0xC3>", "<0xA9>"]
    assert tokenizer.decode(tokens) == "abc é"
    assert tokenizer.end == 2


def test_packaged_tokenizer(packaged_model):
    tokenizer = load_tokenizer(packaged_model)
    assert tokenizer.encode("The capital of France is") == [504, 3575, 282, 4649, 314]
    assert tokenizer.vocabulary == 49152
    assert tokenizer.decode(tokenizer.encode(DEFAULT_PROMPT)) == DEFAULT_PROMPT
    assert tokenizer.encode("<|im_end|>") == [tokenizer.end]
