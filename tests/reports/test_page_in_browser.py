"""The page of `analog-glue report` in Chromium, without a network: it loads, sorts, draws, answers the pointer, and prints."""

import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from analog_glue.in_situ.reports.chapter import chapter
from analog_glue.reports.page.build import build_page
from analog_glue.runs.rows import find_rows
from tests.reports.test_page import DEMO, RECORDS, with_names, write_runs

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MEASURED = "spoon2021_figure5_minilm"  # real sweeps: two tasks, two trainings
MOST_BYTES = 5_000_000  # of the page of 300 runs

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="left out: no Chromium"),
]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="left out: no Playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The page of real sweeps."""
    return build_page(RECORDS / MEASURED, tmp_path_factory.mktemp("page") / "report.html")[0]


@pytest.fixture
def opened(browser):
    """Opens a file offline; `page.noise` gathers whatever the console says and whatever is asked of a network."""
    contexts = []

    def open_(file: Path, width: int = 1200, scheme: str = "light", ready: bool = True, fragment: str = ""):
        context = browser.new_context(viewport={"width": width, "height": 850}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.noise = []
        page.on("console", lambda message: page.noise.append(message.text))
        page.on("pageerror", lambda error: page.noise.append(str(error)))
        page.on("request", lambda request: page.noise.append(request.url) if request.url != file.as_uri() else None)
        page.goto(file.as_uri() + fragment)
        if ready:  # every chart is drawn
            page.wait_for_selector("html[data-ready]", timeout=120_000)
        return page

    yield open_
    for context in contexts:
        context.close()


def colour(page) -> str:
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def cells(page, table: str, column: int) -> list[str]:
    return page.eval_on_selector_all(f"{table} tbody tr", f"rows => rows.map(row => row.cells[{column}].textContent.trim())")


def test_the_first_table_is_not_cut_off_where_a_window_is_1280_wide(opened, file):
    page = opened(file, width=1280, ready=False)
    shown, whole = page.eval_on_selector("#answer .scroll", "table => [table.clientWidth, table.scrollWidth]")
    assert whole <= shown


def test_it_loads_without_a_network_and_without_a_word_and_draws_every_chart(opened, file):
    page = opened(file)
    plots = page.locator(".plot")
    assert plots.count() > 3 and page.locator(".plot[data-drawn]").count() == plots.count()
    sizes = page.eval_on_selector_all(".plot svg", "all => all.map(one => one.getBoundingClientRect().width)")
    assert len(sizes) == plots.count() and min(sizes) > 200
    assert page.noise == []


def test_so_do_pages_of_training_on_devices_and_of_ablations(opened, tmp_path):
    for name in ("gokmen2021", "spoon2021_ablation_minilm", "spoon2021_figure8_minilm"):
        root = RECORDS / name
        page = opened(build_page(root, tmp_path / f"{name}.html", chapter(root))[0])
        assert page.locator(".plot[data-drawn]").count() == page.locator(".plot").count() > 0
        assert page.noise == []


def test_the_first_screen_has_the_question_and_its_answer(opened, file):
    page = opened(file, ready=False)
    for text in (
        "How accurate is a transformer",
        "after 1 month",
        "What makes it better",
        "hardware-aware training instead of",
    ):
        assert page.get_by_text(text).first.bounding_box()["y"] < 850
    assert page.locator(".facts dd").count() == 6  # in software, and at five times


def test_a_table_is_sorted_by_numbers_and_by_times_and_put_back(opened, file):
    page = opened(file, ready=False)
    table = "#answer table"
    software = 2  # the column of scores in software
    before = cells(page, table, software)
    head = page.locator(f"{table} thead button").nth(software)
    head.click()
    assert cells(page, table, software) == sorted(before, key=float)
    head.click()
    assert cells(page, table, software) == sorted(before, key=float, reverse=True)
    head.click()
    assert cells(page, table, software) == before
    times = "section[id^=hardware] table >> nth=0"
    rows = page.locator(times).locator("tbody tr th")
    page.locator(times).locator("thead button").first.click()
    page.locator(times).locator("thead button").first.click()
    told = [text for text in rows.all_inner_texts() if re.match(r"1 ", text)]
    assert told == ["1 month", "1 week", "1 day", "1 h", "1 s"]


def test_a_point_under_the_pointer_says_its_score_and_its_error(opened, file):
    page = opened(file)
    point = page.locator("section[id^=hardware] .plot .mark-symbol path").last
    point.scroll_into_view_if_needed()
    point.hover(force=True)
    told = page.locator("#vg-tooltip-element")
    told.wait_for(state="visible")
    assert re.search(r"score\s+\d+\.\d+ ± \d\.\d+ \w+ \[points\]", told.inner_text())
    assert re.search(r"after\s+1 (s|h|day|week|month)", told.inner_text())


def test_a_number_is_one_click_from_the_command_and_the_settings_of_its_run(opened, file):
    page = opened(file, ready=False)
    page.locator(".facts a").last.click()
    dialog = page.locator("dialog[open]")
    told = dialog.inner_text()
    assert "analog-glue train task=" in told and "training=hardware_aware" in told and "tile.adc_bits" in told
    link = re.search(r"#runs?-\d+$", page.url).group()
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0 and "#" not in page.url
    again = opened(file, ready=False, fragment=link)  # a link that was kept
    assert again.locator("dialog[open]").inner_text() == told
    page.locator(".facts a").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("dialog[open]").count() == 1 and page.noise == again.noise == []


def test_it_is_light_or_dark_as_the_system_until_the_button_is_pressed(opened, file):
    page, dark = opened(file, ready=False), opened(file, ready=False, scheme="dark")
    assert colour(page) == "rgb(255, 255, 255)" and colour(dark) == "rgb(23, 24, 26)"
    page.locator("#theme").click()
    assert colour(page) == "rgb(23, 24, 26)"
    page.reload()
    assert colour(page) == "rgb(23, 24, 26)"
    dark.locator("#theme").click()
    assert colour(dark) == "rgb(255, 255, 255)"


def test_on_a_phone_nothing_but_tables_is_wider_than_the_screen(opened, file):
    page = opened(file, width=390)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert max(page.eval_on_selector_all(".plot svg", "all => all.map(one => one.getBoundingClientRect().right)")) <= 390


def test_in_print_the_paper_is_white_and_what_is_for_the_screen_is_gone(opened, file):
    page = opened(file, scheme="dark")
    page.emulate_media(media="print")
    assert colour(page) == "rgb(255, 255, 255)"
    assert not page.locator("header").is_visible() and page.locator(".plot svg").first.is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_names_from_a_run_do_nothing(opened, tmp_path):
    root = write_runs(tmp_path / "runs", [with_names(measured) for measured in DEMO])
    page = opened(build_page(root, tmp_path / "page.html")[0])
    page.locator(".facts a").last.click()
    assert "<img src=x" in page.locator("dialog[open]").inner_text()
    page.keyboard.press("Escape")
    point = page.locator("section[id^=hardware] .plot .mark-symbol path").last
    point.scroll_into_view_if_needed()
    point.hover(force=True)
    page.locator("#vg-tooltip-element").wait_for(state="visible")
    assert page.evaluate("window.evil") is None and page.locator("img").count() == 0 and page.noise == []


def test_runs_are_found_by_a_part_of_their_name(opened, file):
    page = opened(file, ready=False)
    page.locator("#filter").fill("stsb-minilm-hardware")
    shown = page.locator("#runs tbody tr:visible").all_inner_texts()
    assert shown and all("stsb-minilm-hardware" in text for text in shown)


def test_a_page_of_300_runs_is_small(opened, tmp_path, capsys):
    """How long it takes is measured and said, not asserted: it depends on the machine."""
    rows = [row for row in find_rows(RECORDS / MEASURED) if row.task == "stsb"]
    alone = [row for row in rows if row.run == rows[0].run]
    root = tmp_path / "runs"
    for number in range(300):
        task = ("rte", "mrpc", "stsb", "cola", "sst2")[number % 5]
        named = {"run": f"run-{number}", "train_ids": f"{number:08x}", "seed": number // 10, "task": task}
        tile = ("spoon2021", "factsheet")[number % 2]
        write_runs(root, [replace(row, tile=tile, value=row.value + number % 7, **named) for row in alone])
    built = time.monotonic()
    file, _ = build_page(root, tmp_path / "page.html")
    opening = time.monotonic()
    page = opened(file, ready=False)
    seen = time.monotonic()
    page.wait_for_selector("html[data-ready]", timeout=120_000)
    with capsys.disabled():
        print(f"\n300 runs: {file.stat().st_size / 1e6:.1f} MB, made in {opening - built:.1f} s, "
              f"open in {seen - opening:.1f} s, every chart after {time.monotonic() - opening:.1f} s")  # fmt: skip
    assert file.stat().st_size <= MOST_BYTES and page.locator("#runs tbody tr").count() == 600 and page.noise == []
