"""Chromium without a window, driven by the DevTools protocol over its two pipes."""

import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
MEND = "install a browser with: apt-get install -y chromium"


class Browser:
    """One tab of a fresh profile; `with Browser() as tab: tab.open(url)`."""

    def __enter__(self):
        program = next(filter(None, map(shutil.which, NAMES)), None)
        assert program, f"No Chromium was found; {MEND}"
        self.profile = tempfile.TemporaryDirectory(
            prefix="pose-dive-browser-", ignore_cleanup_errors=True
        )
        commands, self.write = os.pipe()
        self.read, answers = os.pipe()
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--remote-debugging-pipe",
            f"--user-data-dir={self.profile.name}",
        ]
        # Chromium reads commands from file descriptor 3 and answers on 4.
        shell = f'exec "$0" "$@" 3<&{commands} 4>&{answers}'
        self.process = subprocess.Popen(
            ["bash", "-c", shell, program, *flags, "about:blank"],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self.count, self.buffer, self.events, self.session = 0, b"", [], None
        target = next(
            t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"
        )
        self.session = self.call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        os.close(self.write)
        self.process.terminate()
        self.process.wait(20)
        os.close(self.read)
        self.profile.cleanup()

    def call(self, method: str, **params) -> dict:
        """One command and its result."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params} | (
            {"sessionId": self.session} if self.session else {}
        )
        os.write(self.write, json.dumps(message).encode() + b"\0")
        answer = self._until(lambda message: message.get("id") == self.count)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _until(self, wanted, seconds: float = 60) -> dict:
        deadline = time.monotonic() + seconds
        while True:
            while b"\0" in self.buffer:
                line, _, self.buffer = self.buffer.partition(b"\0")
                message = json.loads(line)
                if "method" in message:
                    self.events.append(message)
                if wanted(message):
                    return message
            ready, _, _ = select.select([self.read], [], [], max(0, deadline - time.monotonic()))
            data = os.read(self.read, 1 << 20) if ready else b""
            assert data, "Chromium does not answer"
            self.buffer += data

    def width(self, pixels: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=pixels,
            height=800,
            deviceScaleFactor=1,
            mobile=True,
        )

    def open(self, page: Path, query: str = "") -> list[str]:
        """Load a file, with the `query` of its address; what went wrong, in words.

        Exceptions, console errors, and resources from elsewhere or missing.
        """
        self.events.clear()
        self.call("Page.navigate", url=page.resolve().as_uri() + query)
        if not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._until(lambda message: message.get("method") == "Page.loadEventFired")
        self.evaluate(
            "Promise.all([...document.images].map(i => { i.loading = 'eager'; "
            "return i.decode().catch(() => null); })).then(() => 1)"
        )
        return [
            words for event in self.events if (words := _problem(event["method"], event["params"]))
        ]

    def evaluate(self, expression: str):
        """Value of a JavaScript expression; promises are awaited."""
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")


def _problem(method: str, params: dict) -> str | None:
    if method == "Runtime.exceptionThrown":
        return f"exception: {params['exceptionDetails']['text']}"
    if method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
        return f"console: {params['args']}"
    if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
        return f"log: {params['entry']['text']} {params['entry'].get('url', '')}"
    if method == "Network.requestWillBeSent" and not params["request"]["url"].startswith(
        ("file:", "data:")
    ):
        return f"loads {params['request']['url']}"
    if method == "Network.loadingFailed" and not params.get("canceled"):
        return f"failed to load: {params['errorText']}"
    return None
