"""report.html in headless Chromium: it sorts, filters, fits, and asks nobody for anything."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from prediction_tables import answer, random_night, write_predictions, write_truth

from vidpipe.config import EvaluateConfig
from vidpipe.stages.evaluate import evaluate

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
LABELS = ("cartwheel", "catch", "clap & <b>wave</b>", "climb stairs", "dive", "$x_1$ " + "very long name " * 6)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, twenty_videos: Path) -> Path:
    """Of 20 videos that are there, with film strips, and 280 that are not; with everything a page can hold."""
    folder = tmp_path_factory.mktemp("report")
    urls = [str(path) for path in sorted(twenty_videos.rglob("*.*"))] + [
        f"/gone/{index:03d}.mp4" for index in range(278)
    ]
    urls += ["/gone/" + "x" * 1000 + ".mp4", "/gone/<img src=http://example.invalid/a.png>\n.mp4"]
    truth = [LABELS[index % len(LABELS)] for index in range(len(urls))]
    rows = random_night(urls, LABELS, truth, skill=2, seed=0)
    rows[:3] = [answer(urls[index], LABELS[(index + 1) % 6], 0.99) for index in range(3)]
    now = write_predictions(folder / "now", LABELS, rows, run={"videos_per_s": 12.5, "gpu_busy_share": 0.9})
    before = random_night(urls, LABELS, truth, skill=1, seed=1)
    other = write_predictions(folder / "other", LABELS, before, checkpoint=("0ther", "/m"))
    listed = [{"url": url, "label": label, "group": url[:9]} for url, label in zip(urls, truth, strict=True)]
    config = EvaluateConfig(
        predictions=now,
        output=str(folder / "out"),
        manifest=write_truth(folder / "truth.parquet", listed),
        against=other,
        drift_from=other,
        strips=6,
    )
    evaluate(config)
    return folder / "out/report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator:
    playwright = pytest.importorskip("playwright.sync_api")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def page(browser, report: Path, request: pytest.FixtureRequest) -> Iterator:
    """The report as it opens from disk; at the end nothing was asked of anyone and nothing was complained about."""
    width, scheme = getattr(request, "param", (1440, "light"))
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened = context.new_page()
    asked, complaints = [], []
    opened.on("request", lambda asking: asked.append(asking.url))
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(report.as_uri())
    yield opened
    context.close()
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    assert complaints == []


def names(page) -> list[str]:
    return page.locator("#videos-table tbody tr td.name").all_inner_texts()


@pytest.mark.parametrize(
    "page", [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")], indirect=True, ids=str
)
def test_the_page_fits_and_shows_its_pictures(page):
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    images = page.locator("ol.frames img")
    assert images.count() >= 8
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert page.locator("section").count() == 9
    # Text that does not stand out from what is behind it would be dark on dark.
    ink, back = page.evaluate("['color', 'backgroundColor'].map((name) => getComputedStyle(document.body)[name])")
    brightness = [sum(map(int, color.strip("rgb()").split(", "))) for color in (ink, back)]
    assert abs(brightness[0] - brightness[1]) > 500
    axis = page.locator("#chart-reliability svg text").first
    assert axis.evaluate("(text) => getComputedStyle(text).fill") != "rgb(0, 0, 0)"


def test_the_table_of_classes_sorts_by_number_and_by_name(page):
    table = page.locator("#classes-table")
    column = lambda index: table.locator(f"tbody tr > :nth-child({index})")  # noqa: E731
    recall = table.get_by_role("button", name="recall")
    recall.click()
    values = [float(text.split()[0]) for text in column(4).all_inner_texts()]
    assert values == sorted(values)
    assert table.locator("th", has_text="recall").get_attribute("aria-sort") == "ascending"
    recall.click()
    assert [float(text.split()[0]) for text in column(4).all_inner_texts()] == sorted(values, reverse=True)
    table.get_by_role("button", name="class", exact=True).click(timeout=5000)
    assert [text.split()[0] for text in column(1).all_inner_texts()] == [label.split()[0] for label in LABELS]


def test_the_table_sorts_by_keyboard(page):
    button = page.locator("#videos-table thead button", has_text="score")
    button.focus()
    page.keyboard.press("Enter")
    scores = [float(text.split()[0]) for text in page.locator("#videos-table td.number").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    page.keyboard.press("Enter")
    scores = [float(text.split()[0]) for text in page.locator("#videos-table td.number").all_inner_texts()]
    assert scores == sorted(scores)  # a video without a score stays at the end


def test_filters_choose_among_all_videos_and_film_strips(page):
    assert page.locator("#count").inner_text() == "300 of 300 videos"
    assert len(names(page)) == 25
    page.select_option("select[name=class]", label="dive")
    page.select_option("select[name=status]", label="wrong")
    number = int(page.locator("#count").inner_text().split()[0])
    assert 0 < number < 100
    for row in page.locator("#videos-table tbody tr").all():
        assert "dive" in row.inner_text()
        assert row.locator(".chip").inner_text() == "wrong"
    for film in page.locator("article.film:visible").all():
        assert "dive" in film.text_content()
    page.get_by_role("button", name="Clear").click()
    page.fill("input[name=text]", "277")
    assert [name.rpartition("/")[2] for name in names(page)] == ["277.mp4"]
    page.fill("input[name=text]", "no such video")
    assert names(page) == []
    assert page.locator(".group .empty:visible").count() == page.locator(".group .empty").count()


def test_a_class_leads_to_its_videos_and_pages_turn(page):
    page.locator("#classes-table").get_by_role("button", name="catch").click()
    assert page.locator("select[name=class]").input_value() == "1"
    page.get_by_role("button", name="Clear").click()
    first = names(page)
    page.get_by_role("button", name="Next").click()
    assert page.locator("#page-label").inner_text() == "page 2 of 12"
    assert not set(first) & set(names(page))
    assert page.get_by_role("button", name="Previous").is_enabled()


def test_names_are_shown_as_they_are(page):
    page.fill("input[name=text]", "<img")
    assert names(page) == ["/gone/<img src=http://example.invalid/a.png>�.mp4"]
    assert page.locator("option", has_text="clap & <b>wave</b>").count() == 1
