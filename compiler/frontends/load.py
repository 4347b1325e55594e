"""One name for every kind of model: file, folder, packaged model or published shape."""

from __future__ import annotations

from pathlib import Path

from compiler.errors import FrontendError
from compiler.frontends import packaged, shapes, tokenizer
from compiler.frontends.gguf import load_gguf, open_gguf
from compiler.frontends.safetensors import load_safetensors
from compiler.model import Model


def load_model(spec: str) -> Model:
    """Model of a ``.gguf`` file, a Hugging Face folder, a packaged model or ``shape:NAME``.

    Tensor presence and shapes are checked, no tensor is read. Raises FrontendError.
    """
    if spec.startswith(shapes.PREFIX):
        return shapes.load_shape(spec)
    path = _locate(spec)
    return load_safetensors(path) if path.is_dir() else load_gguf(path)


def load_tokenizer(spec: str) -> tokenizer.Tokenizer:
    """Tokenizer of the same model; a published shape takes bytes as tokens."""
    if spec.startswith(shapes.PREFIX):
        return tokenizer.bytes_tokenizer()
    path = _locate(spec)
    if path.is_dir():
        return tokenizer.json_tokenizer(path)
    return tokenizer.gguf_tokenizer(open_gguf(path), path)


def _locate(spec: str) -> Path:
    known = [*packaged.MODELS, *(shapes.PREFIX + name for name in shapes.SHAPES)]
    if not spec:
        raise FrontendError("the model's name is empty; give a .gguf file, a folder with "
                            f"config.json, or one of {', '.join(known)}")
    if spec in packaged.MODELS:
        return packaged.find_model(spec)
    path = Path(spec)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise FrontendError(f"{spec}: not a model folder (it has no config.json)")
        return path
    if path.exists():
        return path
    raise FrontendError(f"{spec}: no such model; give a .gguf file, a folder with config.json, "
                        f"or one of {', '.join(known)}")
