"""The report page in a real browser: it draws, stays quiet, asks nothing of any network, and answers its reader."""

import pytest

from evomerge.reporting.page import render
from tests.browser import Browser, browser
from tests.reporting.page.synthetic import page_data, preferred

__all__ = ["browser"]  # the fixture

CHOSEN = "return document.querySelector('#detail h3').firstChild.textContent"
ROWS = "return [...document.querySelectorAll('#candidates tbody tr')].map((row) => row.children[0].textContent)"
DRAW_ALL = """
const done = arguments[0], all = [...document.querySelectorAll(".chart")];
let at = 0;
const next = () => {
  if (at === all.length) return done(document.querySelectorAll(".chart .main-svg, .chart canvas").length);
  all[at++].scrollIntoView({ behavior: "instant" });
  requestAnimationFrame(() => setTimeout(next, 30));
};
next();
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def show(browser, tmp_path):
    """Opens the page of some data; in the end the console must have been silent, and the network too."""

    def opened(data) -> Browser:
        page = tmp_path / "report.html"
        page.write_text(render(data), encoding="utf-8")
        browser.size(1280, 900)
        browser.open(page)
        browser.run("const chart = document.querySelector('#front .chart'); if (chart) chart.scrollIntoView()")
        browser.wait("const chart = document.querySelector('#front .chart'); return !chart || chart.drawn")
        return browser

    yield opened
    assert browser.errors() == []
    assert browser.requests() == []


def set_choice(browser: Browser, label: str, value: str) -> None:
    browser.run(
        """const label = [...document.querySelectorAll("label")].find((l) => l.textContent === arguments[0]);
        const select = document.getElementById(label.htmlFor);
        select.value = arguments[1];
        select.dispatchEvent(new Event("change"));""",
        label,
        value,
    )


def set_sliders(browser: Browser, weights: list[str]) -> None:
    browser.run(
        """document.querySelectorAll(".slider input").forEach((input, i) => {
          input.value = arguments[0][i];
          input.dispatchEvent(new Event("input"));
        })""",
        weights,
    )


def emit(browser: Browser, event: str, row: int) -> None:
    """Tell the chart of the front that the pointer did something to a point."""
    browser.run(
        """const points = [{ customdata: [0, arguments[1]] }];
        document.querySelector("#front .chart").emit(arguments[0], { points, event: { clientX: 9, clientY: 9 } });""",
        event,
        row,
    )


def press(browser: Browser, key: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser.driver).send_keys(key).perform()


@pytest.mark.parametrize(
    "made",
    [
        {"objectives": 1, "predicted": False},
        {"objectives": 3, "layers": 80},
        {"objectives": 4, "runs": 3},
        {"objectives": 2, "runs": 2, "hostile": True},
        {"objectives": 2, "candidates": 0, "predicted": False},
    ],
    ids=lambda made: "-".join(f"{key}={value}" for key, value in made.items()),
)
def test_a_page_is_drawn_without_errors_or_requests(show, made):
    view = show(page_data(**made))
    assert view.driver.execute_async_script(DRAW_ALL) > 0
    assert view.run("return document.documentElement.dataset.ready") == "yes"
    assert view.run("return [...document.querySelectorAll('.chart')].filter((c) => !c.hidden && !c.drawn).length") == 0
    for width, theme in ((1280, "dark"), (400, "light")):
        view.size(width, 900)
        set_choice(view, "Theme", theme)
        assert view.run("return document.documentElement.dataset.theme") == theme
        assert view.run("return document.documentElement.scrollWidth") <= width, "nothing hangs over the edge"
    assert view.run("return window.broken") is None
    if made.get("hostile"):
        title = view.run("return document.querySelector('#front .chart .xtitle').textContent")
        assert title.startswith("<b>bold</b>&amp;"), "Plotly reads texts as HTML, unless they are escaped"


def test_five_thousand_candidates_are_quick(show):
    """In time of the page's own thread, which other work on the machine does not change."""
    data = page_data(objectives=4, candidates=5000)
    view = show(data)

    def spent() -> float:
        metrics = view.driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")

    view.driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    view.driver.refresh()
    view.wait("return document.documentElement.dataset.ready === 'yes'")
    assert spent() < 10
    loaded = spent()
    for row in range(5):
        view.run("document.querySelectorAll('#candidates tbody tr')[arguments[0]].click()", row)
    assert spent() - loaded < 2.5
    assert "page 1 of 335" in view.run("return document.querySelector('.pager').textContent")
    view.driver.execute_async_script(DRAW_ALL)
    drawn = view.run(
        "return document.querySelector('#front .chart').data.map((t) => t.x.length).reduce((a, b) => a + b)"
    )
    scored = sum(failure is None for failure in data["runs"][0]["trials"]["failure"])
    assert drawn == 5 * scored, "four tasks and a gap for each model"


def test_the_head_says_what_is_better_how_sure_that_is_and_how_to_get_it(show):
    data = page_data()
    run = data["runs"][0]
    headline, command = ".verdict .headline", ".verdict pre"
    text = "const found = document.querySelector('#glance ' + arguments[0]); return found && found.textContent"
    view = show(data)
    assert view.run(text, headline) == "Better than the best expert. Too close to call against the best uniform merge."
    assert view.run(text, command) == "evomerge export 'runs/search 0' OUT"
    assert "report split (100 items a task)" in view.run(text, ".verdict")
    assert "+0.21" in view.run(text, ".rivals")
    run["versus"]["rivals"][1] |= {"mean": -0.2, "low": -0.3, "high": -0.1, "p": 0.004}
    assert show(data).run(text, headline) == "Worse than the best uniform merge. Better than the best expert."
    run["versus"], run["trials"]["best"] = None, [False] * len(run["trials"]["best"])
    assert show(data).run(text, headline).startswith("No verdict yet")
    assert view.run(text, command) is None, "without a choice on the selection split there is nothing to export"


def test_the_browser_fixture_would_notice(browser, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text("<script>fetch('http://127.0.0.1:9/x').catch(() => {}); missing()</script>", encoding="utf-8")
    browser.open(page)
    assert any("missing" in line for line in browser.errors())
    assert any("127.0.0.1" in url for url in browser.requests())


def test_the_keyboard_chooses_a_candidate(show):
    from selenium.webdriver.common.keys import Keys

    view = show(page_data(candidates=60))
    order = view.run(ROWS)
    assert view.run("return document.querySelector('#candidates tbody tr').textContent").count("best") == 1
    view.run("document.querySelector('#candidates tbody tr[tabindex=\"0\"]').focus()")
    first = view.run("return document.activeElement.getAttribute('aria-selected')")
    assert first == "true", "the best one is chosen from the start"
    press(view, Keys.ARROW_DOWN)
    assert view.run("return document.activeElement.children[0].textContent") == order[1]
    assert view.run(CHOSEN).endswith(" " + order[1])
    press(view, Keys.PAGE_DOWN)
    assert "page 2 of" in view.run("return document.querySelector('.pager').textContent")
    assert view.run("return document.activeElement.getAttribute('aria-selected')") == "true"
    press(view, Keys.HOME)
    assert view.run(ROWS) == order


def test_the_table_sorts_and_filters(show):
    data = page_data(candidates=60)
    trials = data["runs"][0]["trials"]
    view = show(data)
    view.run("document.querySelectorAll('#candidates thead button')[0].click()")
    assert view.run(ROWS)[:3] == ["0", "1", "2"]
    assert view.run("return document.querySelector('#candidates th').getAttribute('aria-sort')") == "ascending"
    set_choice(view, "Kind", "expert")
    assert view.run(ROWS) == ["1", "2", "3"]
    set_choice(view, "Kind", "failed")
    failed = [str(n) for n, failure in zip(trials["number"], trials["failure"], strict=True) if failure]
    assert view.run(ROWS) == failed
    set_choice(view, "Kind", "all")
    view.run(
        "const box = document.getElementById('find'); box.value = arguments[0]; box.dispatchEvent(new Event('input'))",
        trials["hash"][5],
    )
    assert view.run(ROWS) == ["5"]


def test_sliders_choose_the_point_that_python_would(show):
    data = page_data(objectives=3)
    predicted = data["runs"][0]["predicted"]
    values = predicted["points"]["values"]
    values[-1] = values[preferred(predicted, [1.0, 0.5, 0.5])]  # of equal points the first is taken
    view = show(data)
    seen = set()
    for weights in (
        ["1", "0.5", "0.5"],
        ["0", "1", "0"],
        ["0.35", "0.05", "0.9"],
        ["0.1", "0.1", "1"],
        ["1", "0", "0"],
    ):
        set_sliders(view, weights)
        index = preferred(predicted, [float(w) for w in weights])
        assert (
            view.run("return document.getElementById('predicted-hash').textContent")
            == predicted["points"]["hash"][index]
        )
        command = view.run("return document.querySelector('#preference .copyable pre').textContent")
        given = " ".join(
            f"--prefer {task}={w}" for task, w in zip(predicted["tasks"], weights, strict=True) if float(w) > 0
        )
        assert command == f"evomerge export 'runs/search 0' OUT --predicted {given}"
        promise = view.run("return document.querySelector('#preference .outcome td:nth-child(3)').textContent")
        low, high = (predicted["points"][end][index][0] for end in ("promise_low", "promise_high"))
        assert promise == f"{100 * low:.1f} to {100 * high:.1f}"
        seen.add(index)
    assert len(seen) > 2, "preferences lead to different recipes"
    set_sliders(view, ["0", "0", "0"])
    assert "weight above 0" in view.run("return document.querySelector('#preference .outcome').textContent")


def test_floors_that_no_point_reaches_leave_the_point_that_lacks_least(show):
    data = page_data(objectives=2)
    predicted = data["runs"][0]["predicted"]
    predicted["floors"] = [None, 2.0]
    view = show(data)
    index = max(range(400), key=lambda i: predicted["points"]["values"][i][1])
    assert (
        view.run("return document.getElementById('predicted-hash').textContent") == predicted["points"]["hash"][index]
    )
    assert "No predicted point reaches all floors" in view.run("return document.querySelector('.outcome').textContent")


def test_a_click_in_the_front_chooses_and_hover_shows_the_recipe(show):
    data = page_data()
    view = show(data)
    emit(view, "plotly_hover", 20)
    tip = view.run("return document.getElementById('tip').innerText")
    assert "candidate 20" in tip
    assert data["runs"][0]["dimensions"][0]["name"] in tip
    emit(view, "plotly_click", 20)
    assert view.run(CHOSEN) == "candidate 20"
    command = view.run("return document.querySelector('#detail .copyable pre').textContent")
    assert command == "evomerge export 'runs/search 0' OUT --pick 20"
    assert view.run("return document.querySelector('#candidates tr.chosen').children[0].textContent") == "20"


def test_bars_and_baselines_are_drawn(show):
    data = page_data()
    view = show(data)
    traces = view.run(
        """return document.querySelector("#front .chart").data.map((t) =>
        [t.name, t.x.length, t.error_x && t.error_x.array.length, t.error_y && t.error_y.array.length])"""
    )
    drawn = {name: (n, across, up) for name, n, across, up in traces}
    trials = data["runs"][0]["trials"]
    front = sum(trials["front"]) - 1  # the best is drawn apart
    assert drawn["base"] == (1, 1, 1)
    assert drawn["expert"] == (3, 3, 3)
    assert drawn["uniform merge"][0] == 5
    assert drawn["front"] == (front, front, front)
    assert drawn["best found"] == (1, 1, 1)


def test_all_views_of_three_tasks(show):
    view = show(page_data(objectives=3))
    kinds = "return [...new Set(document.querySelector('#front .chart').data.map((t) => t.type))]"
    assert view.run(kinds) == ["scatter"]
    set_choice(view, "View", "space")
    assert view.run(kinds) == ["scatter3d"]
    set_choice(view, "View", "parallel")
    lines = view.run("return document.querySelector('#front .chart').data.find((t) => t.name === 'base').x")
    assert lines == [0, 1, 2, None]
    set_choice(view, "Scores", "report")
    assert view.run("return document.querySelector('#front .chart').data.length") > 1


def test_runs_are_overlaid_and_one_is_in_focus(show):
    data = page_data(runs=3)
    view = show(data)
    names = view.run("return document.querySelector('#front .chart').data.map((t) => t.name)")
    assert {f"search {i}: best found" for i in range(3)} <= set(names)
    bases = (
        "return document.querySelector('#front .chart').data.filter((t) => t.name === 'base').map((t) => t.x.length)"
    )
    assert view.run(bases) == [1], "runs of a sweep share their baselines"
    view.run("document.getElementById('run-2').click()")
    best = data["runs"][2]["trials"]["best"].index(True)
    assert view.run(CHOSEN) == f"candidate {best}"
    assert "runs/search 2" in view.run("return document.querySelector('#preference .copyable pre').textContent")


def test_progress_against_items_and_seconds(show):
    data = page_data()
    view = show(data)
    view.driver.execute_async_script(DRAW_ALL)
    curves = data["runs"][0]["curves"]
    last = """const lines = document.querySelector("#progress .chart").data;
    return [lines[0].x.at(-1), lines[0].y.at(-1), lines.length]"""
    for along, end in (
        ("items", curves["items"][-1]),
        ("seconds", curves["seconds"][-1]),
        ("candidates", len(curves["number"])),
    ):
        set_choice(view, "Against", along)
        x, y, lines = view.run(last)
        assert x == pytest.approx(end)
        assert y == pytest.approx(curves["best"][-1])
        assert lines == 1 + len(data["runs"][0]["baseline_lines"])


def test_a_page_prints(show):
    view = show(page_data())
    set_choice(view, "Theme", "dark")
    view.run("window.dispatchEvent(new Event('beforeprint'))")
    assert view.run("return document.documentElement.dataset.theme") == "light", "paper is light"
    assert view.run(
        "return [...document.querySelectorAll('.chart')].every((c) => c.drawn && c._fullLayout.width <= 700)"
    )
    view.run("window.dispatchEvent(new Event('afterprint'))")
    assert view.run("return document.documentElement.dataset.theme") == "dark"


def test_a_sweep_compares_its_groups(show):
    data = page_data(runs=4, candidates=10)
    first = {"name": "cmaes <b>", "runs": [0, 1], "scores": [0.9, 0.8], "mean": 0.85, "low": 0.7, "high": 1.0}
    cost = {"candidates": 10, "seconds": 60.0}
    second = {"name": "random", "runs": [2], "scores": [0.5], "mean": 0.5, "low": 0.4, "high": 0.6}
    behind = {"mean": 0.35, "low": 0.1, "high": 0.6, "p": 0.004}
    data["comparison"] = {
        "split": "selection",
        "groups": [{**first, **cost, "behind": None}, {**second, **cost, "behind": behind}],
        "left_out": [3],
    }
    browser = show(data)
    rows = browser.run(
        """return [...document.querySelectorAll('#optimizers tbody tr')]
        .map((row) => [...row.children].map((cell) => cell.innerText))"""
    )
    assert [row[0] for row in rows] == ["cmaes <b>", "random"]
    assert rows[0][2].split("\n") == ["0.85", "0.70 to 1.00"]
    assert rows[1][4:7] == ["+0.35\n+0.10 to +0.60", "worse", "0.004"]
    assert browser.run("return document.querySelectorAll('#optimizers .seed').length") == 3
    words = browser.run("return document.querySelector('#optimizers').textContent")
    assert "say nothing about other seeds" in words
    assert data["runs"][3]["name"] in words
    assert browser.run("return [...document.querySelectorAll('#nav a')].some((a) => a.hash === '#optimizers')")


def test_a_single_run_has_no_groups(show):
    assert show(page_data(candidates=5)).run("return document.querySelector('#optimizers')") is None
