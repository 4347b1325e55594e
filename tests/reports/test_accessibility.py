"""Every kind of page, audited by axe-core, on paper, and without what its charts need."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from playwright.sync_api import Browser, Page

from compiler.frontends.load import load_model
from compiler.statistics.collect import LINEARS_OF, collect, windows_of
from reports import calibration
from reports.comparison import write_comparison
from reports.page import write_page, write_report
from reports.study_page.page import write_study_report
from tests.reports.browser import NO_WEBGL, chromium, needs_chromium, opened, violations
from tests.reports.synthetic import synthetic_demo, synthetic_run
from tests.reports.synthetic_decoder import MISMATCH, synthetic_decoder
from tests.reports.synthetic_study import synthetic_study

pytestmark = needs_chromium
CHARTS = ("study", "studies")
OPEN = "document.querySelectorAll('details:not(:has([id^=run-]))').forEach((e) => e.open = true)"
"""All sections but the runs of a comparison: their parts are those of the pages of single runs."""
PAPER_PX = 718
"""A4, 210 mm, without Chromium's margins of 1 cm."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened_browser:
        yield opened_browser


def study_page(folder: Path) -> None:
    synthetic_study(folder, 30)
    write_study_report(folder)


def studies_page(folder: Path) -> None:
    for name, seed in (("a", 1), ("b", 3)):
        synthetic_study(folder / name, 20, seed=seed, name=name, study_text=f"name: {name}\n")
    write_comparison([folder / "a", folder / "b"], folder)


def run_page(folder: Path) -> None:
    synthetic_run(folder)
    write_report(folder)


def decoder_page(folder: Path) -> None:
    """With sampled layers and a mismatch, so that it has every section."""
    synthetic_decoder(folder, [0, 2], bit_exact=False, failed_pass="decode 6",
                      first_mismatch=MISMATCH)
    write_report(folder)


def comparison_page(folder: Path) -> None:
    synthetic_demo(folder)
    write_report(folder)


def calibration_page(folder: Path) -> None:
    model = load_model("shape:tiny").in_memory()
    ids = np.arange(96) % 200
    texts = {"builtin": windows_of(model, ids, 32), "other": windows_of(model, ids[::2], 32)}
    layers, _ = collect(model, texts)
    facts = [{"source": source, "sha256": "5d" * 32, "first_token": 0, "tokens": 96}
             for source in texts]
    write_page(folder, *calibration.render(json.loads(json.dumps({
        "model": "shape:tiny", "architecture": "tiny", "window_tokens": 32, "texts": facts,
        "linears_of": LINEARS_OF, "layers": layers, "robustness": []}))))


PAGES: dict[str, Callable[[Path], None]] = {
    "study": study_page, "studies": studies_page, "run": run_page, "decoder": decoder_page,
    "comparison": comparison_page, "calibration": calibration_page}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with one page each; its figures are empty, for drawing them takes most of the time.

    Widths on paper hold for figures too: these are as large as drawn ones.
    """
    save, kept = Figure.savefig, {}

    def empty(self: Figure, file: io.BytesIO, **options: Any) -> None:
        key = (*self.get_size_inches(), options["format"])
        if key not in kept:
            buffer = io.BytesIO()
            save(Figure(figsize=key[:2]), buffer, **options)
            kept[key] = buffer.getvalue()
        file.write(kept[key])

    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", empty)
        for name, write in PAGES.items():
            folders[name] = tmp_path_factory.mktemp(name)
            write(folders[name])
    return folders


def too_wide(page: Page) -> list[str]:
    """Elements that reach beyond the right edge of the paper."""
    page.set_viewport_size({"width": PAPER_PX, "height": 1000})
    page.emulate_media(media="print")
    found: list[str] = page.evaluate("""() => [...document.querySelectorAll("main *")]
        .filter((each) => each.getClientRects().length && !each.closest(".hidden")
          && each.getBoundingClientRect().right > innerWidth + 1)
        .map((each) => `${each.tagName} ${each.className}: ${each.textContent.slice(0, 60)}`)""")
    return found


def test_the_audit_finds_what_is_wrong(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content("<main><h1>A</h1><h3 style='color: #ccc'>pale</h3><input></main>")
    found = {each.split(":")[0] for each in violations(page)}
    page.close()
    assert {"color-contrast", "heading-order", "label", "html-has-lang"} <= found


@pytest.mark.parametrize("name", PAGES)
def test_pages(browser: Browser, pages: dict[str, Path], name: str) -> None:
    """On paper, as they come; then light and wide, then dark and narrow with sections open."""
    with opened(browser, pages[name], NO_WEBGL, wait=name in CHARTS) as page:
        assert too_wide(page) == []
        page.emulate_media(media="screen")
        page.evaluate(OPEN)
        if name == "study":
            page.locator("input[name=design]").nth(1).check()
        for scheme, width in (("light", 1280), ("dark", 420)):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            found = violations(page)
            assert found == [], f"{scheme}, {width} px:\n" + "\n".join(found)


@pytest.mark.parametrize(("name", "script", "options"), [
    ("study", "", {"java_script_enabled": False}),
    ("study", "delete window.DecompressionStream", {}),
    ("study", "delete Array.prototype.toReversed", {}),
    ("studies", "delete Blob.prototype.stream", {})])
def test_pages_without_charts(
    browser: Browser, pages: dict[str, Path], name: str, script: str, options: dict[str, Any]
) -> None:
    """Pictures and tables in their place, one sentence, and no control that does nothing."""
    error = script.rpartition(".")[2] or "none"
    with opened(browser, pages[name], script, wait=False, error=error, **options) as page:
        page.get_by_text("pictures and tables stand in for them").wait_for()
        figures = page.locator("figure.static img")
        assert figures.count() == {"study": 5, "studies": 1}[name]
        assert all(figures.nth(place).is_visible() for place in range(figures.count()))
        assert page.locator(".detail:visible").count() == page.locator(".detail").count()
        assert page.locator(".chart:visible").count() == 0
        for control in ("button", "input", "select"):
            assert page.locator(f"{control}:visible:enabled").count() == 0
        if "DecompressionStream" in script:
            assert violations(page) == []
        if not options:
            assert too_wide(page) == []
            assert figures.last.is_visible()
            assert not page.get_by_text("stand in for them").is_visible()
