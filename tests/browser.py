"""A headless Chromium for tests of pages: console errors and network requests are recorded.

Skips, with the reason, where selenium, Chromium or its driver is missing. Import the fixture `browser` where it is
used.
"""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

selenium = pytest.importorskip("selenium", reason="selenium is not installed: no browser tests")


class Browser:
    """One browser window; `driver` is selenium's own."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def size(self, width: int, height: int) -> None:
        """Set the size of the page's own area in pixels, also below the least width of a window."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def open(self, page: Path) -> None:
        """Open a file, and wait until it is loaded."""
        self.errors(), self.requests()  # of the page before
        self.driver.get(page.resolve().as_uri())
        self.wait("return document.readyState === 'complete'")

    def wait(self, script: str) -> None:
        """Wait until JavaScript returns something true."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 600).until(lambda driver: driver.execute_script(script))

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def errors(self) -> list[str]:
        """Return what the console has said since the last call, warnings and errors.

        Not what Chromium says of its own about reading back what it drew, which it does without a graphics card.
        """
        said = [entry["message"] for entry in self.driver.get_log("browser")]
        return [line for line in said if "GPU stall due to ReadPixels" not in line and "Multiple readback" not in line]

    def requests(self) -> list[str]:
        """Return the addresses that were asked for since the last call, but for files, data and blobs in memory."""
        events = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        sent = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith(("file:", "data:", "blob:"))]

    def screenshot(self, path: Path) -> None:
        """Save what the window shows as a PNG."""
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        path.write_bytes(base64.b64decode(shot["data"]))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no Chromium or chromedriver on the path: no browser tests")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--enable-unsafe-swiftshader",
        "--window-size=1280,900",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    window = webdriver.Chrome(options=options, service=Service(driver))
    window.command_executor.client_config.timeout = 600  # a busy machine is slow, not wrong
    window.set_page_load_timeout(600)
    window.set_script_timeout(600)
    try:
        yield Browser(window)
    finally:
        window.quit()
