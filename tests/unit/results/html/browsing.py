"""What tests do with a page in a browser."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


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
    js(browser, "const c = document.getElementById(arguments[0]); c.value = arguments[1];"
                "c.dispatchEvent(new Event('input', {bubbles: true}))", control, value)  # fmt: skip
