"""The report in a real browser: light, dark, on a phone, pointed at, and printed."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.io.read import read_sweep
from analysis.report.build import write_report
from tests.analysis.awkward import LONG_MLLMS, LONG_VARIANTS, crowd, some
from tests.analysis.browser import MISSING, Browser
from tests.analysis.figures.test_figures import write_costs
from tests.analysis.pictures import scene
from tests.analysis.rich import WANTED
from tests.analysis.stats.test_compare import RATES, RISING, drawn

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture(scope="module")
def page(rich_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    write_costs(rich_dir, ("elic",))
    out = tmp_path_factory.mktemp("report")
    return Path(write_report(str(rich_dir), str(out)).html)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as one:
        yield one


def light_all(browser: Browser) -> None:
    """Unfold and scroll through the page until every figure has been replaced."""
    browser.run("document.querySelectorAll('details.part').forEach((one) => one.open = true)")
    browser.until(
        "(scrollBy(0, 600), document.querySelectorAll('figure[data-live] .main-svg').length >= 2 *"
        " document.querySelectorAll('figure[data-live]').length)"
    )


def shade(browser: Browser) -> float:
    """Median brightness of what is shown, 0 to 255."""
    with Image.open(io.BytesIO(browser.picture())) as picture:
        return float(np.median(np.asarray(picture.convert("L"))))


def test_it_is_drawn_light_and_dark_and_fits_a_phone(browser: Browser, page: Path) -> None:
    for width, height, dark in ((1200, 900, False), (1200, 900, True), (390, 844, False)):
        browser.show(page, width, height, dark)
        assert (shade(browser) < 60) is dark
        light_all(browser)
        wide = browser.run("return document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, (width, "the page can be scrolled sideways")
        assert browser.errors() == []
        colours = browser.run(
            "return [...document.querySelectorAll('.live .xtitle, .live .ytitle')]"
            ".map((one) => getComputedStyle(one).fill)"
        )
        expected = "rgb(230, 233, 238)" if dark else "rgb(31, 35, 40)"
        assert set(colours) == {expected}


def test_figures_follow_the_scheme_when_it_changes(browser: Browser, page: Path) -> None:
    browser.show(page, 1200, 900)
    browser.run("document.getElementById('result').scrollIntoView()")
    browser.until("document.querySelectorAll('.live .main-svg').length")
    fill = "getComputedStyle(document.querySelector('.live .xtitle')).fill"
    browser.until(f"{fill} === 'rgb(31, 35, 40)'")
    browser.scheme(dark=True)
    browser.until(f"{fill} === 'rgb(230, 233, 238)'")


def test_a_point_says_how_it_was_made_and_leads_to_its_run(browser: Browser, page: Path) -> None:
    browser.show(page, 1200, 900)
    browser.run("document.getElementById('result').scrollIntoView()")
    browser.until("document.querySelectorAll('[data-live=mean] .point').length")
    browser.run("document.querySelector('[data-live=mean]').scrollIntoView({block: 'center'})")
    x, y, legend = browser.run(
        "const box = document.querySelector('[data-live=mean] .point').getBoundingClientRect();"
        "return [box.x + box.width / 2, box.y + box.height / 2,"
        " document.querySelector('[data-live=mean] .legendtext').textContent]"
    )
    mouse = {"x": x, "y": y, "button": "left", "clickCount": 1}
    browser.devtools("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})
    hover = "document.querySelector('[data-live=mean] .hovertext')"
    browser.until(hover)
    said = browser.run(f"return {hover}.textContent")
    assert legend in said
    assert "elic lambda 0.0005 seed 0" in said
    assert "steps 300" in said
    assert "MLflow run" in said
    for kind in ("mousePressed", "mouseReleased"):
        browser.devtools("Input.dispatchMouseEvent", {"type": kind, **mouse})
    browser.until("document.querySelector('[data-live=mean] .picked a')")
    links = browser.run(
        "return [...document.querySelectorAll('[data-live=mean] .picked a')].map((a) => a.href)"
    )
    assert links[0].startswith("http://mlflow.example:5000/#/runs/")
    browser.run("document.querySelectorAll('[data-live=mean] .picked a')[1].click()")
    run = links[0].rpartition("/")[2]
    browser.until("document.querySelector('details.long[open]')")
    assert run in browser.run("return document.querySelector('details.long[open]').innerHTML")


def test_the_comparison_fits_a_window_of_a_laptop(browser: Browser, page: Path) -> None:
    browser.show(page, 1280, 900)
    browser.run("document.querySelectorAll('details.part').forEach((one) => one.open = true)")
    wide = browser.run(
        "const one = document.querySelector('#comparison .scroll');"
        "return [one.scrollWidth, one.clientWidth]"
    )
    assert wide[0] <= wide[1]
    over = browser.run(
        "const right = document.querySelector('#comparison .scroll').getBoundingClientRect().right;"
        "return [...document.querySelectorAll('#comparison .more td')]"
        ".filter((one) => one.getBoundingClientRect().right > right + 1).length"
    )
    assert over == 0


def test_the_notes_of_a_figure_stay_below_its_interactive_one(
    browser: Browser, tmp_path: Path
) -> None:
    sweep = drawn(reconstruction=(RATES, RISING), d1=(RATES, RISING))
    browser.show(Path(write_report(sweep, str(tmp_path)).html), 1200, 900)
    light_all(browser)
    texts = browser.run(
        "return [...document.querySelectorAll('figure.lit .below')]"
        ".filter((one) => one.offsetHeight > 0).map((one) => one.textContent)"
    )
    assert set(texts) == {"the same points: reconstruction, d1"}


def test_printed_it_shows_the_drawn_figures(browser: Browser, page: Path) -> None:
    browser.show(page, 1200, 900)
    light_all(browser)
    still = (
        "return [...document.querySelectorAll('figure.card .still')]"
        ".map((one) => getComputedStyle(one).display)"
    )
    assert "none" in browser.run(still)
    browser.page.emulate_media(media="print")
    try:
        assert set(browser.run(still)) == {"block"}
        hidden = "[...document.querySelectorAll('.live')].every((one) => one.offsetHeight === 0)"
        assert browser.run(f"return {hidden}")
    finally:
        browser.page.emulate_media(media="null")


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast of two colours as `rgb(r, g, b)`."""

    def luminance(colour: str) -> float:
        channels = np.array([int(value) for value in re.findall(r"\d+", colour)[:3]]) / 255
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        return float(linear @ (0.2126, 0.7152, 0.0722))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def clip(browser: Browser, selector: str) -> np.ndarray:
    """The pixels of an element as they are shown."""
    browser.run(f"document.querySelector('{selector}').scrollIntoView({{block: 'center'}})")
    x, y, width, height = browser.run(
        f"const box = document.querySelector('{selector}').getBoundingClientRect();"
        "return [box.x + scrollX, box.y + scrollY, box.width, box.height]"
    )
    where = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
    said = browser.devtools("Page.captureScreenshot", {"clip": where})
    with Image.open(io.BytesIO(base64.b64decode(said["data"]))) as picture:
        return np.asarray(picture.convert("RGB")).astype(float)


@pytest.mark.parametrize(
    ("width", "dark"), [(1200, False), (1200, True), (390, False), (390, True)]
)
def test_the_gallery_shows_images_boxes_and_answers(
    browser: Browser, page: Path, width: int, dark: bool
) -> None:
    browser.show(page, width, 844, dark)
    browser.run(
        "document.querySelectorAll('#gallery, .example details').forEach((one) => one.open = true)"
    )
    browser.run("document.getElementById('examples').scrollIntoView()")
    wide = browser.run("return document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, "the page can be scrolled sideways"
    edges = browser.run(
        "return [...document.querySelectorAll('.example .pixels, .example li, .example article')]"
        ".map((one) => one.getBoundingClientRect()).map((box) => [box.left, box.right, box.height])"
    )
    assert len(edges) > 200
    assert all(0 <= left < right <= width and height > 0 for left, right, height in edges)

    # The image of the page is that of the sweep, the wanted box is white on it.
    seen = clip(browser, ".asked .pixels")
    size = seen.shape[:2]
    given = np.asarray(scene(0).resize(size[::-1], Image.Resampling.BILINEAR)).astype(float)
    assert np.median(np.abs(seen - given)) < 12
    x = round((WANTED[0] + WANTED[2]) / 2 * size[1])
    rows = range(round(WANTED[1] * size[0]) - 3, round(WANTED[1] * size[0]) + 4)
    assert max(seen[row, x].min() for row in rows) > 230
    # A decoded image has the answered box in amber.
    seen = clip(browser, ".example article .pixels")
    amber = np.abs(seen - (255, 196, 0)).max(-1) < 30
    assert amber.sum() > 40

    colours = browser.run(
        "return ['right', 'wrong'].map((name) => getComputedStyle("
        "document.querySelector('.example .' + name)).color)"
    )
    card = browser.run(
        "return getComputedStyle(document.querySelector('.example')).backgroundColor"
    )
    assert all(contrast(colour, card) >= 4.5 for colour in colours)
    assert browser.errors() == []


def test_printed_the_gallery_keeps_its_images(browser: Browser, page: Path) -> None:
    browser.show(page, 1200, 900, dark=True)
    browser.run("document.getElementById('gallery').open = true")
    browser.page.emulate_media(media="print")
    try:
        seen = clip(browser, ".asked .pixels")
        given = np.asarray(scene(0).resize(seen.shape[1::-1], Image.Resampling.BILINEAR))
        assert np.median(np.abs(seen - given)) < 12
        card = "getComputedStyle(document.querySelector('.example')).backgroundColor"
        assert browser.run(f"return {card}") == "rgb(255, 255, 255)"
    finally:
        browser.page.emulate_media(media="null")


def test_without_its_script_the_page_is_complete(browser: Browser, page: Path) -> None:
    browser.devtools("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.show(page, 1200, 900)
        assert shade(browser) > 200
    finally:
        browser.devtools("Emulation.setScriptExecutionDisabled", {"value": False})
    figures, drawn = browser.run(
        "const own = [...document.querySelectorAll('figure.card')];"
        "return [own.length, own.filter((f) => f.querySelector('.still svg')).length]"
    )
    assert figures == drawn >= 10


@pytest.fixture(scope="module")
def variants(sweep_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of variants with long names, settings and MLLMs."""
    sweep = some(read_sweep(str(sweep_dir)), task=["vqa", "rec"])
    out = tmp_path_factory.mktemp("variants")
    return Path(write_report(crowd(sweep, LONG_MLLMS[:2], LONG_VARIANTS), str(out)).html)


def test_the_table_of_variants_fits_a_laptop_and_a_phone(browser: Browser, variants: Path) -> None:
    for width, height in ((1280, 800), (390, 844)):
        browser.show(variants, width, height)
        browser.run("document.getElementById('variants').open = true")
        beyond, page, cut = browser.run(
            "const own = document.querySelector('[aria-label=Variants]');"
            "const cells = [...own.querySelectorAll('th[scope], td')];"
            "return [own.scrollWidth - own.clientWidth,"
            " document.documentElement.scrollWidth - innerWidth,"
            " cells.filter((one) => one.scrollWidth > one.clientWidth + 1).length]"
        )
        assert beyond <= 0, width
        assert page <= 0, width
        assert cut == 0, width
    # On a phone every number says what it is.
    named = browser.run(
        "const one = document.querySelector('[aria-label=Variants] td[data-of=\"BD-rate\"]');"
        "return [getComputedStyle(one, '::before').content, getComputedStyle(one).display]"
    )
    assert named == ['"BD-rate"', "grid"]


@pytest.mark.parametrize("width", [1280, 390])
def test_titles_of_live_figures_fit_and_variants_can_be_pointed_at(
    browser: Browser, variants: Path, width: int
) -> None:
    browser.show(variants, width, 844)
    light_all(browser)
    wide = browser.run(
        "return [...document.querySelectorAll('.live')].flatMap((one) => ["
        "...one.querySelectorAll('.gtitle, .gtitle-subtitle')].map((text) => "
        "text.getBoundingClientRect().right - one.getBoundingClientRect().right))"
    )
    assert len(wide) > 8
    assert max(wide) <= 1
    live = "[data-live^=ablation] "
    legend, ticks = browser.run(
        f"const box = (what) => document.querySelector('{live}' + what).getBoundingClientRect();"
        "return [box('.legend').top, box('.xaxislayer-above').bottom]"
    )
    assert legend >= ticks - 1  # no name along the axis runs into the legend
    browser.run(f"document.querySelector('{live}').scrollIntoView({{block: 'center'}})")
    x, y = browser.run(
        f"const box = document.querySelector('{live}.point').getBoundingClientRect();"
        "return [box.x + box.width / 2, box.y + box.height / 2]"
    )
    browser.devtools("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})
    browser.until(f"document.querySelector('{live}.hovertext')")
    said = browser.run(f"return document.querySelector('{live}.hovertext').textContent")
    for words in ("d1", "entering-at-block-2", "teacher.block = 2", "accuracy 0.", "BD-rate", "["):
        assert words in said, said
    assert "4 rates" in said
    assert browser.errors() == []


@pytest.mark.parametrize(("width", "highest"), [(1280, 6000), (390, 12000)])
def test_before_anything_is_unfolded_the_page_is_short(
    browser: Browser, page: Path, width: int, highest: int
) -> None:
    browser.show(page, width, 844)
    height, wide, order = browser.run(
        "return [document.documentElement.scrollHeight,"
        " document.documentElement.scrollWidth - innerWidth,"
        " [...document.querySelectorAll('h2')].map((one) => one.textContent)]"
    )
    assert 1000 < height < highest
    assert wide <= 0
    assert order[:3] == ["Result", "Task by task", "Examples"]
    assert order[-1] == "Provenance and citation"


def test_landmarks_headers_and_names_are_there_for_a_screen_reader(
    browser: Browser, page: Path
) -> None:
    browser.show(page, 1280, 844)
    for landmark in ("header", "nav", "main", "footer"):
        assert browser.page.locator(f"body > {landmark}").count() == 1, landmark
    assert browser.page.get_by_role("navigation", name="Contents").count() == 1
    bare, unnamed = browser.run(
        "return [document.querySelectorAll('th:not([scope])').length,"
        " [...document.querySelectorAll('[role=img], [role=region], svg.pixels')]"
        ".filter((one) => !one.getAttribute('aria-label')).length]"
    )
    assert (bare, unnamed) == (0, 0)


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_has_enough_contrast(browser: Browser, page: Path, dark: bool) -> None:
    browser.show(page, 1280, 844, dark)
    browser.run("document.querySelectorAll('details.part').forEach((one) => one.open = true)")
    pairs = browser.run(
        "const behind = (one) => { for (; one; one = one.parentElement) {"
        "  const colour = getComputedStyle(one).backgroundColor;"
        "  if (colour !== 'rgba(0, 0, 0, 0)') return colour; } return 'rgb(255, 255, 255)'; };"
        "const texts = [...document.querySelectorAll('body *:not(svg *, script, .dot)')]"
        "  .filter((one) => [...one.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));"
        "return [...new Set(texts.map((one) => getComputedStyle(one).color + '|' + behind(one)))]"
    )
    assert len(pairs) > 3
    low = [pair for pair in pairs if contrast(*pair.split("|")) < 4.5]
    assert low == []


def test_the_keyboard_reaches_links_and_folds_and_shows_where_it_is(
    browser: Browser, page: Path
) -> None:
    browser.show(page, 1280, 844)
    reached = []
    for _ in range(40):
        browser.page.keyboard.press("Tab")
        reached.append(
            browser.run(
                "const one = document.activeElement, style = getComputedStyle(one);"
                "return [one.tagName, one.closest('details')?.id, style.outlineStyle]"
            )
        )
        if reached[-1][:2] == ["SUMMARY", "sentence"]:
            break
    assert {"A", "SUMMARY"} <= {tag for tag, _, _ in reached}
    assert all(outline != "none" for _, _, outline in reached)
    browser.page.keyboard.press("Enter")
    assert browser.run("return document.getElementById('sentence').open")


def test_a_link_unfolds_the_part_it_leads_to(browser: Browser, page: Path) -> None:
    browser.show(page, 1280, 844)
    browser.page.locator("nav a[href='#comparison']").click()
    browser.until("document.getElementById('comparison').open")


def test_eight_benchmarks_are_columns_of_a_table_that_fits_the_page(
    browser: Browser, tmp_path: Path
) -> None:
    benchmarks = [f"benchmark-{number}-val" for number in range(8)]
    gains = {"reconstruction": 0.0, "d1": 0.05, "d2": 0.07, "post_processing": 0.03}
    rows = [
        (scenario, benchmark, "accuracy", lmbda, lmbda, 0.3 + 0.5 * lmbda + gain)
        for scenario, gain in gains.items()
        for benchmark in benchmarks
        for lmbda in (0.1, 0.2, 0.4, 0.8)
    ]
    columns = ["scenario", "task", "metric", "lmbda", "bpp", "value"]
    file = tmp_path / "eight.csv"
    pd.DataFrame(rows, columns=columns).to_csv(file, index=False)
    browser.show(Path(write_report(str(file), str(tmp_path / "out")).html), 1280, 844)
    browser.page.evaluate("document.getElementById('headline').open = true")
    table = "#headline table"
    heads = browser.page.locator(f"{table} thead th").all_text_contents()
    assert heads == ["curve", "bpp", "mean over tasks", *benchmarks]
    scrolled = "one => one.parentElement.scrollWidth - one.parentElement.clientWidth"
    assert browser.page.eval_on_selector(table, scrolled) <= 0


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_axe_finds_nothing(
    browser: Browser, page: Path, width: int, dark: bool, opened: bool
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    browser.show(page, width, 844, dark)
    if opened:
        browser.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = axe.run(browser.page, options={"resultTypes": ["violations"]}).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found] == []
