"""Pages in headless Chromium, opened as files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium: install the Debian package chromium")
READY = "document.documentElement.dataset.ready === 'yes'"
PATIENCE_MS = 60_000
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
NO_WEBGL = """const real = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
  return kind.startsWith("webgl") ? null : real.call(this, kind, ...more); };"""
"""Where WebGL is not what is tested: without a graphics card it takes most of the time."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser for the tests of a module."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: Browser, folder: Path, script: str = "", *, wait: bool = True, error: str = "",
    **options: Any,
) -> Iterator[Page]:
    """The folder's page; fails on any request but for the page and on errors in the console.

    script: runs before the page's own; wait: until the charts are drawn; error: words of the
    only error that may be there.
    """
    context = browser.new_context(**{"viewport": {"width": 1400, "height": 1000}} | options)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    requests: list[str] = []
    address = (folder / "report.html").as_uri()
    page.on("pageerror", lambda failure: errors.append(str(failure)))
    page.on("console", lambda message: errors.append(message.text)
            if message.type == "error" else None)
    page.on("request", lambda request: requests.append(request.url[:200])
            if request.url != address and not request.url.startswith(("data:", "blob:")) else None)
    if script:
        page.add_init_script(script)
    page.goto(address)
    if wait:
        page.wait_for_function(READY)
    yield page
    context.close()
    assert requests == []
    assert [each for each in errors if not error or error not in each] == []


def violations(page: Page, part: str = "html") -> list[str]:
    """What axe-core finds in a part of the page, one line for each element."""
    # Rows far down a table look like those above, and contrast takes long for each.
    page.add_style_tag(content="tr:nth-child(n + 7) { display: none; }")
    # The drawings themselves are hidden from screen readers: their boxes have names, and tables
    # beside them the numbers.
    found = Axe().run(page, {"include": [part], "exclude": [".main-svg"]}, {
        "runOnly": list(RULES), "resultTypes": ["violations"]}).response["violations"]
    return [f"{rule['id']}: {' '.join(map(str, node['target']))}: {check['message']}"
            for rule in found for node in rule["nodes"]
            for key in ("any", "all", "none") for check in node[key]]
