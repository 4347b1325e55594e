"""Tokenizers: a GGUF file's own vocabulary and merges, a folder's tokenizer.json, or bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from compiler.errors import FrontendError
from compiler.frontends.gguf import metadata

CONTROL, USER_DEFINED = 3, 4
"""GGUF token types that are matched before the text is split."""

_WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}"
          r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SPLITS = {"llama-bpe": _WORDS.format(digits="{1,3}"), "qwen2": _WORDS.format(digits="")}
"""Regular expressions of llama.cpp's pre-tokenizers that differ from GPT-2's."""
SINGLE_DIGITS = ("smollm",)
GPT2 = ("gpt-2", "gpt2", "default")


@dataclass(frozen=True)
class Tokenizer:
    """Text to token numbers and back.

    vocabulary: count of tokens; first: tokens that every text begins with;
    end: the token that ends a text, or None.
    """

    backend: Backend
    vocabulary: int
    first: tuple[int, ...] = ()
    end: int | None = None

    def encode(self, text: str) -> list[int]:
        """Tokens of a text; special tokens written out in it count as such."""
        return [*self.first, *self.backend.encode(text).ids]

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens, without the special ones."""
        return str(self.backend.decode([int(token) for token in tokens]))


def bytes_tokenizer() -> Tokenizer:
    """One token a byte, the byte's value."""
    letters = _byte_letters()
    backend = Backend(models.BPE(vocab={letter: byte for byte, letter in enumerate(letters)},
                                 merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return Tokenizer(backend, len(letters))


def _byte_letters() -> list[str]:
    """GPT-2's printable letter of each byte: itself where it prints, else one from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def json_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer.json of a Hugging Face folder."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise FrontendError(f"{path}: missing; put the model's tokenizer.json there")
    try:
        backend = Backend.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:
        # The library raises bare Exception for whatever is wrong with the file.
        reason = str(error).splitlines()[0]
        raise FrontendError(f"{path}: not a usable tokenizer: {reason}") from None
    return Tokenizer(backend, backend.get_vocab_size())


def gguf_tokenizer(reader: gguf.GGUFReader, path: Path) -> Tokenizer:
    """The tokenizer whose vocabulary a GGUF file carries; FrontendError for an unknown kind."""
    kind = metadata(reader, path, "tokenizer.ggml.model")
    tokens: list[str] = metadata(reader, path, "tokenizer.ggml.tokens")
    types: list[int] = metadata(reader, path, "tokenizer.ggml.token_type", [])
    if kind == "gpt2":
        backend, begins = _byte_level(reader, path, tokens)
    elif kind == "llama":
        backend, begins = _sentence_piece(reader, path, tokens), True
    else:
        raise FrontendError(f"{path}: tokenizer {kind!r} is not supported; "
                            "supported are gpt2 and llama")
    for types_value, special in ((CONTROL, True), (USER_DEFINED, False)):
        added = [AddedToken(token, normalized=False, special=special)
                 for token, found in zip(tokens, types, strict=False) if found == types_value]
        if special:
            backend.add_special_tokens(added)
        else:
            backend.add_tokens(added)
    first: tuple[int, ...] = ()
    if metadata(reader, path, "tokenizer.ggml.add_bos_token", begins):
        first = (int(metadata(reader, path, "tokenizer.ggml.bos_token_id")),)
    end = metadata(reader, path, "tokenizer.ggml.eos_token_id", -1)
    return Tokenizer(backend, len(tokens), first, None if end < 0 else int(end))


def _byte_level(
    reader: gguf.GGUFReader, path: Path, tokens: list[str]
) -> tuple[Backend, bool]:
    """Byte-level BPE, and whether its texts begin with a token by default."""
    split = str(metadata(reader, path, "tokenizer.ggml.pre", "default"))
    merges = [(left, right) for left, _, right in
              (merge.partition(" ") for merge in metadata(reader, path, "tokenizer.ggml.merges"))]
    # Llama 3 takes a word that is in the vocabulary whole, whatever its merges say.
    backend = _bpe(path, tokens, merges, ignore_merges=split == "llama-bpe")
    steps: list[Any] = []
    if split in SPLITS:
        steps.append(pre_tokenizers.Split(Regex(SPLITS[split]), "isolated"))
    elif split in SINGLE_DIGITS:
        steps.append(pre_tokenizers.Digits(individual_digits=True))
    elif split not in GPT2:
        known = ", ".join([*SPLITS, *SINGLE_DIGITS, *GPT2])
        raise FrontendError(f"{path}: pre-tokenizer {split!r} is not supported; "
                            f"supported are {known}")
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split not in SPLITS))
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    backend.decoder = decoders.ByteLevel()
    return backend, split == "llama-bpe"


def _sentence_piece(reader: gguf.GGUFReader, path: Path, tokens: list[str]) -> Backend:
    """SentencePiece BPE: any two pieces whose join is a piece merge, best score first."""
    scores: list[float] = metadata(reader, path, "tokenizer.ggml.scores")
    numbers = {token: number for number, token in enumerate(tokens)}
    merges: list[tuple[float, int, int, tuple[str, str]]] = []
    for token, score in zip(tokens, scores, strict=False):
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in numbers and right in numbers:
                merges.append((-score, numbers[left], numbers[right], (left, right)))
    unknown = tokens[int(metadata(reader, path, "tokenizer.ggml.unknown_token_id", 0))]
    backend = _bpe(path, tokens, [pair for *_, pair in sorted(merges)], unk_token=unknown,
                   fuse_unk=True, byte_fallback=True)
    steps: list[Any] = [normalizers.Replace(" ", "\u2581")]
    if metadata(reader, path, "tokenizer.ggml.add_space_prefix", True):
        steps.insert(0, normalizers.Prepend("\u2581"))
    backend.normalizer = normalizers.Sequence(steps)
    backend.decoder = decoders.Sequence([
        decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", len(steps) - 1, 0)])
    return backend


def _bpe(path: Path, tokens: list[str], merges: list[tuple[str, str]], **options: Any) -> Backend:
    try:
        vocabulary = {token: number for number, token in enumerate(tokens)}
        return Backend(models.BPE(vocab=vocabulary, merges=merges, **options))
    except Exception as error:
        # The library raises bare Exception for merges that do not fit the vocabulary.
        raise FrontendError(f"{path}: unusable tokenizer: {error}") from None
