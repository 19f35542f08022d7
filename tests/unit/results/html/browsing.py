"""What tests do with a page in a browser."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """A headless Chromium with a profile of its own; the test is skipped where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("there is no Chromium here (apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                     "--disable-background-networking", "--disable-component-update", "--disable-sync",
                     "--disable-dev-shm-usage", f"--user-data-dir={profile}", "--window-size=1280,900"):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield opened
    finally:
        opened.quit()


def wait(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """What the condition returns, once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "what is waited for does not come"
        time.sleep(0.05)
    return found


def js(browser: Any, script: str, *arguments: Any) -> Any:
    return browser.execute_script(script, *arguments)


def see(browser: Any, section: str) -> None:
    """Scroll to a section, and wait until it is drawn."""
    js(browser, "document.getElementById(arguments[0]).scrollIntoView()", section)
    wait(lambda: js(browser, "return inView.has(arguments[0]) && !stale.has(arguments[0])", section))


def count(browser: Any, selector: str) -> int:
    return int(js(browser, "return document.querySelectorAll(arguments[0]).length", selector))


def choose(browser: Any, control: str, value: str) -> None:
    script = """
        const control = document.getElementById(arguments[0]);
        control.value = arguments[1];
        for (const kind of ["input", "change"]) control.dispatchEvent(new Event(kind, {bubbles: true}));
    """
    js(browser, script, control, value)
