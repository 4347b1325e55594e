"""The documentation site builds strictly, needs no network, and its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from lutrip.cli import COMMANDS
from reports.reference.docstrings import described, hardware_rules
from reports.reference.tables import TABLES, table
from tests.docs.links import LINKED_PAGES, broken
from tests.docs.pages import DOCS, ROOT, RUN_PAGES, blocks

LOADING = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}
LINKS_THAT_LOAD = {"stylesheet", "icon", "preload", "preconnect", "dns-prefetch", "modulepreload"}


class Loads(HTMLParser):
    """Addresses that a browser fetches when it shows a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "link" and not LINKS_THAT_LOAD & set((values.get("rel") or "").split()):
            return
        if address := values.get(LOADING.get(tag, "")):
            self.found.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_built(site):
    pages = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    for page in pages:
        built = page.with_name("index.html") if page.name == "README.html" else page
        assert (site / built).is_file()


def test_no_network_is_needed(site):
    for path in site.rglob("*.html"):
        outside = [address for address in Loads(path.read_text()).found
                   if re.match(r"(?:[a-z]+:)?//", address)]
        assert not outside, path
    for path in site.rglob("*.css"):
        assert not re.search(r"(?:@import\s|url\()\s*[\"']?(?:https?:)?//", path.read_text()), path


def test_what_a_page_loads_is_there(site):
    for path in set(site.rglob("*.html")) - {site / "404.html"}:  # a server shows it anywhere
        for address in Loads(path.read_text()).found:
            file = address.split("#")[0].split("?")[0]
            if not file.startswith("data:"):
                assert (path.parent / file).is_file(), f"{path}: {address}"


def test_the_reference_has_every_command_and_parameter(site):
    commands = (site / "reference" / "command-line.html").read_text()
    for command in COMMANDS:
        assert f"lutrip {command} [OPTIONS]" in commands
    assert "<code>lutrip calibrate --model smollm2-135m --out runs/calibration\n" in commands
    assert not re.search(r"<p>[^<]*\n *lutrip ", commands)
    hardware = (site / "reference" / "hardware.html").read_text()
    assert "<code>weight_ports</code>" in hardware
    assert "a divisor of the <code>positions</code> positions of a port word" in hardware
    assert "compile_decoder" in (site / "reference" / "python.html").read_text()


def test_every_table_is_asked_for():
    asked = [name for page in DOCS.rglob("*.md")
             for name in re.findall(r"<!-- table: (\S+) -->", page.read_text())]
    assert sorted(asked) == sorted(TABLES)


def test_a_table_keeps_bars_and_marks_empty_cells():
    assert table(["a", "b"], [["x|y", ""]]) == "| a | b |\n| --- | --- |\n| x\\|y | – |"


def test_descriptions_and_rules_come_from_the_code():
    class Documented:
        """One thing.

        width, height: sizes of
            it. colour: a name.
        """

    assert described(Documented, ["width", "height", "colour"]) == {
        "width": "sizes of it", "height": "sizes of it", "colour": "a name"}
    rules = hardware_rules()
    assert rules["tokens_max"] == ["at most 255"]
    assert rules["chains"] == ["a power of two", "chains x chain_length at most 256"]
    assert any(rule.startswith("with simd: ") for rule in rules["lanes"])


def test_the_navigation_has_every_page():
    text = (ROOT / "mkdocs.yml").read_text()
    pages = set(re.findall(r"[\w/-]+\.md", text.split("\nnav:")[1]))
    assert pages == {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert yaml.safe_load(text)["strict"] is True


@pytest.mark.parametrize("page", LINKED_PAGES, ids=lambda path: path.stem)
def test_links_lead_somewhere(page):
    assert not broken(page)


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One\n\n[a](#one) [b](#two) [c](page.md#one) [d](gone.md)\n\n"
                    "`[e](gone.md)`\n\n```text\n[f](gone.md)\n```\n")
    assert broken(page) == ["#two", "gone.md"]


def test_what_is_not_run_says_why():
    for page in RUN_PAGES:
        for line in page.read_text().splitlines():
            assert not line.startswith("<!-- not run") or re.fullmatch(
                r"<!-- not run: \S.+ -->", line)
        assert page.stem == "index" or any(
            block.language in ("bash", "python") for block in blocks(page))
    assert all(Path(page).is_file() for page in RUN_PAGES)
