"""The commands of the tutorial and of the guides run, and show what the pages show."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler.frontends.packaged import CACHE_VARIABLE
from tests.docs.pages import ROOT, RUN_PAGES, blocks
from tests.docs.reader import follow
from tests.docs.refresh import apply
from tests.docs.shown import missing, renewed

SLOW_PAGES = [page for page in RUN_PAGES if any(block.mark == "slow" for block in blocks(page))]


def name(page: Path) -> str:
    """What a test is called."""
    return page.stem


@pytest.fixture
def scratch(tmp_path, circuits, monkeypatch):
    """An empty folder to work in, with the session's circuits as its build folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CACHE_VARIABLE, str(ROOT / ".cache" / "lutrip"))
    monkeypatch.delenv("COLUMNS", raising=False)
    Path("build").symlink_to(circuits)
    Path("configs").symlink_to(ROOT / "configs")
    return tmp_path


def check(page: Path, *, slow: bool) -> None:
    """Follow a page; every shown line must be in the output, every figure be drawn."""
    for step in follow(page, slow=slow):
        block = step.block
        if block.language == "figure":
            assert (page.parent / block.text).is_file(), f"{page}:{block.line}: no such figure"
            assert Path(block.title).stat().st_size > 0
            continue
        lost = missing(block.text.splitlines(), step.output)
        assert lost is None, (
            f"{page}:{block.line} shows {lost!r}; the output is\n" + "\n".join(step.output)
            + "\nbring pages up to date with: python -m tests.docs.refresh")


@pytest.mark.parametrize("page", RUN_PAGES, ids=name)
def test_commands_run_and_show_this(page, scratch):
    check(page, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW_PAGES, ids=name)
def test_slow_commands_run_and_show_this(page, scratch):
    check(page, slow=True)


@pytest.mark.parametrize(("shown", "real", "same"), [
    ("1,234 cycles", "1234  cycles", True),
    ("1,234 cycles", "1,235 cycles", False),
    ("1.0004 ms", "1.0 ms", True),
    ("1.01 ms", "1.0 ms", False),
    ("model +0.24%", "model -0.24%", False),
    ("design 12", "design 13", False),
    ("configuration c08762f8110b8e39", "configuration c08762f8110b8e38", False),
    ("0.5 s (measured)", "0.9 s (measured)", True),
    ("8 evaluated in 0.5 s, 1 taken over", "8 evaluated in 7.5 s, 1 taken over", True),
    ("8 evaluated in 0.5 s, 1 taken over", "8 evaluated in 0.5 s, 2 taken over", False),
    ("lanes", "ports", False),
])
def test_shown_lines_are_compared(shown, real, same):
    assert (missing([shown], ["before", real]) is None) is same


def test_lines_keep_their_order():
    assert missing(["...", "b 1", "a 2"], ["a 2", "b 1"]) == "a 2"


def test_numbers_are_renewed():
    assert renewed(["...", "a 1", "b 2.0"], ["a 3", "c", "b 2.0001"]) == ["...", "a 3", "b 2.0"]
    with pytest.raises(ValueError, match="no such line"):
        renewed(["a 1"], ["b 1"])


def test_a_page_is_followed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text("""
```yaml title="one/file.yaml"
a: 1
```

```bash
cat one/file.yaml
cat one/file.yaml \\
  one/file.yaml
```

```text
a: 1
```

Words.

```text
not output
```

<!-- not run: it would fail -->
```bash
false
```

<!-- fails -->
```bash
test -e gone
```

<!-- slow: for the test -->
```bash
echo slowly
```

```text
slowly
```

```python
print("from Python")
```

```text
from Python
```
""")
    assert [step.output for step in follow(page)] == [["a: 1"] * 3, ["from Python"]]
    assert ["slowly"] in [step.output for step in follow(page, slow=True)]
    page.write_text("```bash\nfalse\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md:1: exit status 1: false"):
        list(follow(page))
    page.write_text("```bash\ntrue\n")
    with pytest.raises(ValueError, match="fence without an end"):
        list(follow(page))


def test_a_page_is_brought_up_to_date(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "pages" / "page.md"
    page.parent.mkdir()
    page.write_text("```bash\necho one; echo 2 apples; echo drawn > plot.svg\n```\n\n"
                    "```text\n...\n1 apples\n```\n\n"
                    "<!-- figure: plot.svg -->\n![A plot](figures/plot.svg)\n\n"
                    "```bash\necho 3 pears\n```\n\n```text\n3 plums\n```\n")
    left = apply(page, list(follow(page)))
    assert "...\n2 apples\n" in page.read_text()
    assert (page.parent / "figures" / "plot.svg").read_text() == "drawn\n"
    assert len(left) == 1
    assert "no such line in the output: '3 plums'" in left[0]
