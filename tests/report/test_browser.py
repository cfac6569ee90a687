"""The page in Chromium: no request, no error, pictures load, tables sort, hostile text is text.

Skipped where there is no Chromium with its driver (Debian: chromium, chromium-driver).
"""

import json
import shutil

import pytest
from fabricate import make_sweep

from resnet_jax.report.write import write_report

webdriver = pytest.importorskip("selenium.webdriver")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium with its driver")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HOSTILE = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of a study with hostile text wherever text can come from."""
    errors = {8: 10.0, 20: 9.0, 110: 11.5}
    runs = [
        ({"model.depth": depth, "data.train_split": split, "seed": seed}, (error + 0.1 * seed, 5.0))
        for depth, error in errors.items()
        for split in ("train", HOSTILE)
        for seed in range(2)
    ]
    runs.append(({"model.depth": 8, "data.train_split": "train", "seed": 2}, ("failed", HOSTILE)))
    texts = {"title": f"Study {HOSTILE}", "description": HOSTILE}
    sweep = make_sweep(tmp_path_factory.mktemp("study"), runs, **texts)
    return write_report([str(sweep.path)])[0]


@pytest.fixture(scope="module")
def opened(browser, page):
    """The browser with the page open; `messages` and `requests` are what it logged on the way."""
    # The start page of the browser has requests of its own.
    browser.get("about:blank")
    browser.get_log("performance")
    browser.get(page.as_uri())
    browser.messages = browser.get_log("browser")
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event for event in events if event["method"] == "Network.requestWillBeSent"]
    browser.requests = [event["params"]["request"]["url"] for event in sent]
    return browser


def test_opens_without_requests_or_errors(opened, page):
    assert opened.messages == []
    assert {url for url in opened.requests if not url.startswith("data:")} == {page.as_uri()}


def test_the_log_would_show_a_request(opened, tmp_path):
    """The check above can fail: a page with a picture elsewhere is caught by both logs."""
    other = tmp_path / "other.html"
    other.write_text("<img src='missing.png'>")
    current = opened.current_url
    opened.get(other.as_uri())
    assert any("missing.png" in entry["message"] for entry in opened.get_log("browser"))
    assert any("missing.png" in entry["message"] for entry in opened.get_log("performance"))
    opened.get(current)


def test_every_picture_loads(opened):
    script = "return [...document.images].map(i => i.complete && i.naturalWidth)"
    widths = opened.execute_script(script)
    assert len(widths) == 2
    assert all(width > 100 for width in widths)


def test_hostile_text_is_text(opened):
    assert opened.title == f"Study {HOSTILE}"
    assert opened.find_element("tag name", "h1").text == f"Study {HOSTILE}"
    assert opened.execute_script("return document.scripts.length") == 1
    assert HOSTILE in opened.find_element("id", "failures").text
    assert HOSTILE in opened.find_element("id", "runs-table").text


def test_the_policy_forbids_other_pictures(opened, page):
    """Whatever came into the page could not call home."""
    script = "const i = new Image(); i.src = arguments[0]; document.body.append(i); return i"
    picture = next(page.parent.glob("*.png")).as_uri()
    image = opened.execute_script(script, picture)
    opened.execute_script("arguments[0].remove()", image)
    assert "Content Security Policy" in " ".join(e["message"] for e in opened.get_log("browser"))


def column(browser, table, number):
    cells = browser.find_elements("css selector", f"#{table} tbody td:nth-child({number})")
    return [cell.text for cell in cells]


def test_tables_sort_by_click_and_by_key(opened):
    heading = "#results-table th:nth-child(1)"
    cell = opened.find_element("css selector", heading)
    button = cell.find_element("tag name", "button")
    button.click()
    assert cell.get_attribute("aria-sort") == "ascending"
    # By value: as text, 110 would come before 20.
    assert column(opened, "results-table", 1) == ["8", "8", "20", "20", "110", "110"]
    button.send_keys("\ue007")
    assert cell.get_attribute("aria-sort") == "descending"
    assert column(opened, "results-table", 1) == ["110", "110", "20", "20", "8", "8"]


def test_sorting_another_column_resets_the_first_and_keeps_empty_cells_last(opened):
    for descending in (False, True):
        button = opened.find_element("css selector", "#runs-table th:nth-child(4) button")
        button.click()
        errors = column(opened, "runs-table", 4)
        assert errors[-1] == "–"
        numbers = [float(error) for error in errors[:-1]]
        assert numbers == sorted(numbers, reverse=descending)
    opened.find_element("css selector", "#runs-table th:nth-child(1) button").click()
    sorts = opened.execute_script(
        "return [...document.querySelectorAll('#runs-table th')].map(h => h.ariaSort)"
    )
    assert sorts == ["ascending"] + ["none"] * 7


def test_results_fit_a_laptop_while_runs_are_pending(browser, tmp_path):
    """Two axes, long names, both intervals, and counts that name every state."""
    states = [
        (67.78, 64.99),
        (60.0, 70.5),
        ("running", None),
        "pending",
        ("diverged", "not finite"),
    ]
    runs = [
        ({**kind, "model.depth": depth, "seed": seed}, state)
        for kind in (
            {"model.shortcut": "shortcut_only_gating", "model.gate_bias": -6.0},
            {"model.shortcut": "constant_scaling", "model.branch_scale": 0.5},
            {"model.shortcut": "A"},
        )
        for depth in (20, 110)
        for seed, state in enumerate(states)
    ]
    current = browser.current_url
    browser.get(write_report([str(make_sweep(tmp_path / "s", runs).path)])[0].as_uri())
    size = {"width": 1360, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    script = "const e = document.querySelector('#results .scroll'); return [e.scrollWidth, e.clientWidth]"
    needed, room = browser.execute_script(script)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get(current)
    assert needed <= room


def test_links_lead_somewhere(opened, page):
    script = "return [...document.links].map(a => a.getAttribute('href'))"
    for link in opened.execute_script(script):
        if link.startswith("#"):
            assert opened.find_elements("id", link[1:]), link
        else:
            assert (page.parent / link).is_file(), link


def test_nothing_is_wider_than_a_phone(opened):
    opened.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 375, "height": 800, "deviceScaleFactor": 1, "mobile": True},
    )
    width = opened.execute_script("return document.documentElement.scrollWidth")
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert width <= 375
