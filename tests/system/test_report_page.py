"""The page in a real browser: Debian's Chromium, driven by Selenium, checked by axe."""

import json
import os
import re
import shutil

import pytest

from lightning_memaudit import AuditReport
from tests.unit.report.conftest import small_store

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None and "CI" not in os.environ, reason="Chromium is not installed (Debian: chromium chromium-driver)"
)
WIDTHS = (360, 820, 1280)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("page")
    report = AuditReport.from_store(small_store(folder / "store", "image").store)
    report.save(folder, formats=["html", "json"])
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = CHROMIUM or ""
    profile = tmp_path_factory.mktemp("profile")
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", f"user-data-dir={profile}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with Chrome(options=options, service=Service(DRIVER)) as driver:
        driver.set_script_timeout(200)
        yield driver


def show(browser, page: str, width: int, *, dark: bool = False, scripts: bool = True) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
    browser.get(page)


def test_no_console_message_no_request_no_sideways_scroll(browser, page) -> None:
    for width in WIDTHS:
        show(browser, page, width)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.get_log("browser") == []
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = {of["params"]["request"]["url"] for of in sent if of["method"] == "Network.requestWillBeSent"}
    assert page in urls
    assert not [url for url in urls if url != page and not url.startswith(("data:", "chrome"))]


@pytest.mark.parametrize("dark", [False, True])
def test_an_accessibility_checker_finds_nothing(browser, page, dark: bool) -> None:
    from axe_core_python.selenium import Axe

    show(browser, page, 820, dark=dark)
    found = Axe().run(browser)
    assert found["violations"] == []
    assert {"color-contrast", "landmark-one-main", "image-alt", "heading-order"} <= {of["id"] for of in found["passes"]}


def test_tables_are_sorted_by_their_headings_and_the_keyboard(browser, page) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    show(browser, page, 1280)
    table = next(
        of for of in browser.find_elements(By.TAG_NAME, "table") if "models in / out" in of.get_attribute("textContent")
    )
    button = table.find_element(By.CSS_SELECTOR, "th button")

    def column() -> list[int]:
        return browser.execute_script(
            "return [...arguments[0].tBodies[0].rows].map((row) => parseInt(row.cells[0].textContent))", table
        )

    before = column()
    button.send_keys(Keys.ENTER)
    assert column() == sorted(before) != before
    assert table.find_element(By.TAG_NAME, "th").get_attribute("aria-sort") == "ascending"
    button.send_keys(Keys.ENTER)
    assert column() == sorted(before, reverse=True)


def test_with_scripts_off_every_number_is_still_there(browser, page) -> None:
    numbers = {}
    for scripts in (True, False):
        show(browser, page, 1280, scripts=scripts)
        root = browser.execute_cdp_cmd("DOM.getDocument", {"depth": 0})["root"]["nodeId"]
        main = browser.execute_cdp_cmd("DOM.querySelector", {"nodeId": root, "selector": "main"})["nodeId"]
        html = browser.execute_cdp_cmd("DOM.getOuterHTML", {"nodeId": main})["outerHTML"]
        numbers[scripts] = re.findall(r"\d+(?:\.\d+)?", re.sub(r"<svg.*?</svg>|<[^>]*>", " ", html, flags=re.DOTALL))
        hidden = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"] if not scripts else []
        assert scripts or any(node.get("role", {}).get("value") == "table" for node in hidden)
    assert len(numbers[True]) > 500
    assert numbers[True] == numbers[False]
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_it_prints(browser, page) -> None:
    show(browser, page, 1280)
    printed = browser.execute_cdp_cmd("Page.printToPDF", {})["data"]
    assert printed.startswith("JVBER")
    assert len(printed) > 20_000
