"""A real browser: Debian's chromium, without a window and without a network beyond this machine."""

import base64
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait


class Browser:
    """Opens pages, and remembers what they complained about."""

    def __init__(self, driver: webdriver.Chrome, artefacts: Path) -> None:
        self.driver, self.artefacts = driver, artefacts
        artefacts.mkdir(parents=True, exist_ok=True)

    def open(
        self, url: str, *, width: int = 1200, dark: bool = False, drawn: str = "return true"
    ) -> None:
        """Opens a page, and waits until the script `drawn` returns something true."""
        media = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        # The page before may miss a server that has ended since; that is not this page's fault.
        self.driver.get("about:blank")
        self.complaints()
        self.driver.get(url)
        self.wait(drawn)

    def wait(self, script: str) -> None:
        """Until the script returns something true; TimeoutException after five minutes."""
        WebDriverWait(self.driver, 300).until(lambda driver: driver.execute_script(script))

    def ask(self, script: str) -> object:
        """What a script returns."""
        return self.driver.execute_script(script)

    def complaints(self) -> list[str]:
        """Errors of the console since the page was opened, or since the last call; requests that
        were refused are among them."""
        return [e["message"] for e in self.driver.get_log("browser") if e["level"] == "SEVERE"]

    def picture(self, name: str, height: int | None = None) -> Path:
        """Keeps a PNG of the page's first `height` pixels, by default of what the window shows."""
        path = self.artefacts / f"{name}.png"
        size = self.driver.execute_script("return [innerWidth, innerHeight]")
        clip = {"x": 0, "y": 0, "width": size[0], "height": height or size[1], "scale": 1}
        shot = {"format": "png", "captureBeyondViewport": True, "clip": clip}
        path.write_bytes(self._bytes("Page.captureScreenshot", shot))
        return path

    def print(self, name: str) -> Path:
        """Keeps the page as it is printed on A4."""
        path = self.artefacts / f"{name}.pdf"
        path.write_bytes(self._bytes("Page.printToPDF", {"paperWidth": 8.27, "paperHeight": 11.69}))
        return path

    def _bytes(self, command: str, arguments: dict[str, object]) -> bytes:
        return base64.b64decode(self.driver.execute_cdp_cmd(command, arguments)["data"])


def started(artefacts: Path) -> Iterator[Browser]:
    """A browser until the generator is closed. RuntimeError: there is no Chromium."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        raise RuntimeError("no Chromium here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    # Every other name is unknown: a page that needs the network shows it.
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    running = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        yield Browser(running, artefacts)
    finally:
        running.quit()


def or_skipped(start: Callable[[], Iterator[Browser]]) -> Iterator[Browser]:
    """The browser, or a reason why not; on CI there is one."""
    try:
        yield from start()
    except RuntimeError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
