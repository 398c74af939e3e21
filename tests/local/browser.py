"""A headless Chromium, driven by the Chrome DevTools Protocol over a pair of pipes."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

__all__ = ["Browser", "Tab", "find_chromium"]

LIMIT: Final = 60  # seconds for anything
_TRY: Final = 0.05  # seconds between two looks
_FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_NEWS: Final = {
    "Runtime.exceptionThrown",
    "Runtime.consoleAPICalled",
    "Log.entryAdded",
    "Page.javascriptDialogOpening",
}


def find_chromium() -> str | None:
    """The browser, where there is one."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class RefusedError(Exception):
    """The browser cannot do what it is asked for, or not now."""


class Browser:
    """A browser with a new profile.

    Parameters
    ----------
    program
        Of Chromium.
    profile
        Folder for its profile.
    """

    def __init__(self, program: str, profile: Path) -> None:
        self._ends = ExitStack()
        self._count = 0
        self._left = b""
        self.events: list[dict[str, Any]] = []
        theirs, self._out = os.pipe()
        self._in, back = os.pipe()
        for end in (self._out, self._in):
            self._ends.callback(os.close, end)
        # it reads from 3 and writes to 4; the shell gives it pipes of such numbers, which may be taken here
        pair = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (theirs, back)]
        script = f'exec "$@" 3</dev/fd/{pair[0]} 4>/dev/fd/{pair[1]}'
        self._process = subprocess.Popen(
            ["sh", "-c", script, "sh", program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=pair,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for end in (theirs, back, *pair):
            os.close(end)

    def close(self) -> None:
        """End it with all its processes."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(LIMIT)
        self._ends.close()

    def tab(self, width: int = 1200, height: int = 800, *, dark: bool = False) -> Tab:
        """A new tab of a size."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Tab(self, session, width, height, dark=dark)

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """The result of a command; what happens meanwhile is added to the events."""
        self._count += 1
        number = self._count
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        deadline = time.monotonic() + LIMIT
        while True:
            answer = self._read(deadline)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RefusedError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            if answer.get("method") in _NEWS:
                self.events.append(answer)
            if answer.get("method") == "Page.javascriptDialogOpening":  # else the tab waits for ever
                self._dismiss(answer["sessionId"])

    def _dismiss(self, session: str) -> None:
        self._count += 1
        message = {"id": self._count, "method": "Page.handleJavaScriptDialog", "sessionId": session}
        os.write(self._out, json.dumps({**message, "params": {"accept": True}}).encode() + b"\0")

    def _read(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._in], [], [], max(0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self._in, 1 << 16)
            assert data, "the browser has ended"
            self._left += data
        message, _, self._left = self._left.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


class Tab:
    """A tab of a browser."""

    def __init__(self, browser: Browser, session: str, width: int, height: int, *, dark: bool) -> None:
        self._browser = browser
        self._session = session
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command."""
        return self._browser.call(method, self._session, **parameters)

    def open(self, url: str) -> None:
        """Go to a page."""
        self.call("Page.navigate", url=url)
        self.wait("document.readyState !== 'loading'")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str) -> Any:
        """The value of an expression as soon as it is true."""
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            with suppress(RefusedError):  # one page has gone and the next is not there yet
                if found := self.evaluate(expression):
                    return found
            time.sleep(_TRY)
        raise AssertionError(f"never true: {expression}\n{self.text()}")

    def text(self) -> str:
        """What can be read."""
        found: str = self.evaluate("document.body?.innerText")
        return found

    def wait_text(self, text: str) -> None:
        """Return when it can be read."""
        self.wait(f"document.body?.innerText.includes({json.dumps(text)})")

    def click(self, selector: str, text: str = "") -> None:
        """Click the first element that a selector finds and that has a text."""
        where = self.wait(
            f"""(() => {{
                const has = (each) => each.textContent.includes({json.dumps(text)});
                const found = [...document.querySelectorAll({json.dumps(selector)})].find(has);
                if (!found) return null;
                found.scrollIntoView({{ block: "center", behavior: "instant" }});
                const box = found.getBoundingClientRect();
                return {{ x: box.x + box.width / 2, y: box.y + box.height / 2 }};
            }})()"""
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **where)

    def fill(self, selector: str, text: str) -> None:
        """Type a text into a field, in the place of what is there."""
        self.wait(f"document.querySelector({json.dumps(selector)}) !== null")
        self.evaluate(f"(each => {{ each.focus(); each.select(); }})(document.querySelector({json.dumps(selector)}))")
        self.call("Input.insertText", text=text)

    def screenshot(self, path: Path) -> bytes:
        """A picture of the whole page as PNG, written to a file too."""
        size: Mapping[str, float] = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {**size, "scale": 1}
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        picture = base64.b64decode(data)
        path.write_bytes(picture)
        return picture

    def problems(self) -> list[str]:
        """What a page should not have done: errors, dialogs, lines in the console."""
        self.evaluate("0")  # what has happened before is told before
        found = [each for each in self._browser.events if each.get("sessionId") == self._session]
        return [f"{each['method']}: {json.dumps(each['params'])}" for each in found]
