"""What tests ask of a page's markup."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input", "hr", "wbr"}
CONTROLS = {"input", "select", "textarea"}


class Markup(HTMLParser):
    """Elements of a page: balanced, with unique ids; controls without a label; what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.sources: list[str] = []
        self.references: list[str] = []
        self.unlabelled: list[str] = []
        self.buttons: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if "id" in values:
            self.ids.append(values["id"])
        if "href" in values:
            self.targets.append(values["href"])
        if "src" in values:
            self.sources.append(values["src"])
        for name in ("aria-labelledby", "for"):
            self.references += values.get(name, "").split()
        if tag in CONTROLS and "label" not in self.open and "aria-label" not in values:
            self.unlabelled.append(str(values))
        if tag == "img":
            assert values["alt"]
        if tag == "button":
            self.buttons.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if "button" in self.open:
            self.buttons[-1] += data.strip()


def check_markup(text: str) -> Markup:
    """Assert that a page is well-formed, labelled, and names nothing outside of itself."""
    page = Markup(text)
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    assert set(page.references) <= set(page.ids)
    assert all(target.startswith("#") and target[1:] in page.ids for target in page.targets)
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert page.unlabelled == []
    assert all(page.buttons)
    assert "default-src 'none'" in text
    return page
