"""Figures as bytes for a page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from reports.numbers import Tag

DOTS_PER_INCH = 150


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A drawn figure: PNG bytes, and what a reader who cannot see it is told."""

    file: str
    title: str
    tag: Tag
    png: bytes

    @property
    def source(self) -> Markup:
        """The picture as the address of an img element, without a file of its own."""
        return Markup(f"data:image/png;base64,{base64.b64encode(self.png).decode()}")


def draw(figure: Figure, file: str, title: str, tag: Tag) -> Picture:
    """Render a figure; equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, facecolor="white",
                   metadata={"Software": None})
    return Picture(file=file, title=title, tag=tag, png=buffer.getvalue())


def vector(figure: Figure) -> bytes:
    """A figure as SVG for papers; equal figures give equal bytes."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "lutrip"}):
        figure.savefig(buffer, format="svg", dpi=DOTS_PER_INCH,
                       metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
