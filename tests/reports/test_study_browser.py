"""A real click-through of the study page in headless Chromium, opened as a file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from reports.comparison import write_comparison
from reports.study_page.page import write_study_report
from reports.study_page.study import Study, load_study
from tests.reports.browser import NO_WEBGL, chromium, needs_chromium, opened, violations
from tests.reports.synthetic_study import OBJECTIVES, PARAMETERS, synthetic_study

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened_browser:
        yield opened_browser


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    synthetic_study(folder, 200)
    write_study_report(folder)
    return load_study(folder)


def title(page: Page) -> str:
    return page.locator("#panel-title").inner_text()


def shown(page: Page) -> int:
    """How many points the page says that it shows."""
    found = re.match(r"([\d,]+) of", page.locator("#shown").inner_text())
    assert found
    return int(found[1].replace(",", ""))


def wait_for_shown(page: Page, count: int) -> None:
    page.wait_for_function(
        f"document.getElementById('shown').textContent.startsWith('{count:,} of')")


def test_designs_are_chosen_by_key_and_by_mouse(browser: Browser, study: Study) -> None:
    names = [f"design {number}" for number in study.front]
    first, second = study.front[:2]
    with opened(browser, study.path, NO_WEBGL) as page:
        assert title(page) == names[0]
        assert page.locator(f"#detail-{first}").is_visible()

        page.locator(f"input[name=design][value='{first}']").focus()
        page.keyboard.press("ArrowDown")
        assert title(page) == names[1]
        assert page.locator(f"#detail-{second}").is_visible()
        assert not page.locator(f"#detail-{first}").is_visible()
        assert page.locator("#status").inner_text().startswith(f"{names[1]} selected, on the front")

        page.locator("#front-chart").focus()
        page.keyboard.press("Home")
        left = min(study.front, key=lambda number: study.metric(OBJECTIVES[0], number) or 0)
        assert title(page) == f"design {left}"
        page.keyboard.press("ArrowRight")
        assert title(page) != f"design {left}"
        assert page.locator(f"input[value='{title(page).removeprefix('design ')}']").is_checked()

        dots = page.locator("#front-chart .scatterlayer .trace .points path")
        places = [dots.nth(place).bounding_box() for place in range(dots.count())]
        x, y = next((box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
                    for box in reversed(places[:100]) if box is not None)
        page.mouse.move(x, y)
        hover = page.locator("#front-chart .hoverlayer .hovertext").first
        hover.wait_for()
        name = re.search(r"design \d+", hover.text_content() or "")
        assert name
        assert name[0] != title(page)
        page.mouse.click(x, y)
        page.wait_for_function(f"document.getElementById('panel-title').textContent"
                               f" === '{name[0]}'")
        row = study.rows[int(name[0].removeprefix("design "))]
        panel = page.locator("#panel-parameters").inner_text()
        for key, (label, _) in PARAMETERS.items():
            assert f"{label}\t{study['points']['parameters'][key][row]}" in panel

        page.locator("#bound-map button").first.click()
        assert title(page) != name[0]
        page.locator("#point").fill(str(first))
        page.keyboard.press("Enter")
        assert title(page) == names[0]


def test_filters(browser: Browser, study: Study) -> None:
    points = study["points"]
    lanes, states = points["parameters"]["hardware.lanes"], points["state"]
    times = points["metrics"]["time_per_token_s"]
    with opened(browser, study.path, NO_WEBGL) as page:
        assert shown(page) == len(states)
        dots = page.locator("#front-chart .scatterlayer .trace .points path")
        before = dots.count()
        page.locator("details.filters summary").click()
        page.get_by_role("group", name="lanes", exact=True).get_by_label("256").uncheck()
        wait_for_shown(page, sum(value != 256 for value in lanes))
        page.get_by_role("checkbox", name="refused").uncheck()
        page.get_by_role("checkbox", name="breaks a constraint").uncheck()
        kept = [time for time, value, state in zip(times, lanes, states, strict=True)
                if value != 256 and state == "feasible"]
        wait_for_shown(page, len(kept))
        group = page.get_by_role("group", name="time per token, ms")
        group.get_by_label("to", exact=True).fill("5")
        wait_for_shown(page, sum(time <= 0.005 for time in kept))
        page.wait_for_function(
            "count => document.querySelectorAll('#front-chart .points path').length < count",
            arg=before)
        page.get_by_role("button", name="Reset filters").click()
        wait_for_shown(page, len(states))
        page.locator("#colour").select_option("bound:decode")
        page.locator("#x-metric").select_option("power_w")
        page.locator("#front-chart .xtitle", has_text="power").wait_for()
        legend = page.locator("#front-chart .legendtext").all_text_contents()
        assert {"weight port", "lookup lanes"} <= set(legend)


def test_parallel_coordinates_filter_the_other_charts(browser: Browser, study: Study) -> None:
    with opened(browser, study.path) as page:
        axes = page.locator("#parallel-chart .axis")
        labels = page.locator("#parallel-chart .axis-title").all_text_contents()
        wanted = [*(label for label, _ in PARAMETERS.values()),
                  *(study.label(name) for name in OBJECTIVES)]
        assert [label.replace("\u00a0", " ") for label in labels] == wanted
        assert axes.count() == len(wanted)
        page.locator("#parallel-chart").scroll_into_view_if_needed()
        box = page.locator("#parallel-chart .axis-brush .background").first.bounding_box()
        assert box is not None
        x = box["x"] + box["width"] / 2
        page.mouse.move(x, box["y"] + 3)
        page.mouse.down()
        page.mouse.move(x, box["y"] + box["height"] * 0.2, steps=5)
        page.wait_for_timeout(400)
        page.mouse.up()
        assert violations(page, "#parallel-chart") == []
        points = study["points"]
        highest = max(PARAMETERS["hardware.lanes"][1])
        wait_for_shown(page, sum(
            value == highest and state == "feasible" for value, state in
            zip(points["parameters"]["hardware.lanes"], points["state"], strict=True)))


def test_page_without_webgl(browser: Browser, study: Study) -> None:
    with opened(browser, study.path, NO_WEBGL) as page:
        assert page.locator("figure.webgl img").is_visible()
        assert not page.locator("#parallel-chart").is_visible()
        assert page.locator("#front-chart .points path").count() > 100


def test_dark_print_and_narrow(browser: Browser, study: Study) -> None:
    paper = "document.querySelector('#front-chart .main-svg').style.background"
    with opened(browser, study.path) as page:
        assert page.evaluate(paper) == "rgb(255, 255, 255)"
        page.emulate_media(color_scheme="dark")
        page.wait_for_function(f"{paper} === 'rgb(30, 34, 39)'")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") \
            == "rgb(21, 24, 28)"
        page.emulate_media(media="print", color_scheme="light")
        assert not page.locator("#front-chart").is_visible()
        assert not page.locator("#reset").is_visible()
        assert page.locator("figure.static").first.is_visible()
        assert page.locator("table.designs").is_visible()
        assert page.locator("#panel-metrics").is_visible()
        page.emulate_media(media="screen")
        page.set_viewport_size({"width": 400, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == 400


def test_commands_are_copied(browser: Browser, study: Study) -> None:
    command = study["designs"][0]["commands"][0]
    allowed = ["clipboard-read", "clipboard-write"]
    with opened(browser, study.path, NO_WEBGL, permissions=allowed) as page:
        button = page.get_by_role("button", name=f"copy the command: {command}")
        button.click()
        page.get_by_text("copied", exact=True).first.wait_for(state="attached")
        assert page.evaluate("navigator.clipboard.readText()") == command


def test_ten_thousand_points(browser: Browser, tmp_path: Path) -> None:
    synthetic_study(tmp_path, 10_000)
    assert write_study_report(tmp_path).stat().st_size < 8e6
    with opened(browser, tmp_path) as page:
        painted = page.evaluate("performance.getEntriesByName('first-paint')[0].startTime")
        assert painted < 2000
        assert shown(page) == 10_000
        page.locator("#point").fill("9999")
        page.keyboard.press("Enter")
        assert title(page) == "design 9999"
        assert page.locator("#no-detail").is_visible()


def test_studies_side_by_side(browser: Browser, study: Study, tmp_path: Path) -> None:
    synthetic_study(tmp_path / "b", 100, seed=3, name="other")
    write_comparison([study.path, tmp_path / "b"], tmp_path / "out")
    with opened(browser, tmp_path / "out") as page:
        legend = page.locator("#front-chart .legendtext").all_text_contents()
        assert legend == ["made-up", "other"]
        page.locator("#y-metric").select_option("power_w")
        page.locator("#front-chart .ytitle", has_text="power").wait_for()
        page.emulate_media(media="print")
        assert page.locator("figure.static").is_visible()
