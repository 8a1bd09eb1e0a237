"""Headless Chromium without a network, driven through a pipe (Chrome DevTools Protocol): no driver, no port."""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import time

PROGRAM = next(
    (name for name in ("chromium", "chromium-browser", "google-chrome") if shutil.which(name)), None
)
CUT = ("unshare", "--map-root-user", "--net")
"""Runs a command in a namespace whose only network interface, the loopback, is down."""


def can_cut():
    """Whether a network can be cut here."""
    return bool(shutil.which("unshare")) and subprocess.run([*CUT, "true"], check=False).returncode == 0


class Page:
    """A page in a browser of its own; `faults` holds its errors, as the console shows them, and what it asks a network.

    Parameters
    ----------
    address : str
    folder : path
        For the browser's profile; must exist.
    """

    def __init__(self, address, folder):
        to_browser, self._send = os.pipe()
        self._receive, from_browser = os.pipe()
        flags = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            "--no-first-run",
        ]
        flags += [f"--user-data-dir={folder}/profile", "--window-size=1400,900", "--disable-dev-shm-usage"]
        with open(folder / "browser.log", "wb") as log:
            self._process = subprocess.Popen(  # the browser reads from 3 and writes to 4
                [*CUT, "bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "bash", PROGRAM, *flags],
                pass_fds=(to_browser, from_browser), stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        self._n_sent, self._text, self._session, self.faults = 0, b"", None, []
        try:
            self._open(address)
        except BaseException:
            self.__exit__()
            raise

    def _open(self, address):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Page", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=address)
        self.wait_for("document.readyState == 'complete'")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self._send)
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._receive)

    def call(self, method, seconds=300, **params):
        """Send a command; return its result."""
        self._n_sent += 1
        message = {"id": self._n_sent, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + seconds
        while (answer := self._next(end)).get("id") != self._n_sent:
            self._note(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _next(self, end):
        while b"\0" not in self._text:
            if not select.select([self._receive], [], [], max(end - time.monotonic(), 0))[0]:
                raise TimeoutError("the browser does not answer")
            if not (part := os.read(self._receive, 1 << 20)):
                raise ConnectionError("the browser has ended")
            self._text += part
        message, _, self._text = self._text.partition(b"\0")
        return json.loads(message)

    def _note(self, event):
        params = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.faults.append(details.get("exception", {}).get("description") or details["text"])
        elif event["method"] == "Runtime.consoleAPICalled" and params["type"] in (
            "error",
            "assert",
        ):
            self.faults.append(
                " ".join(str(arg.get("value", arg.get("description"))) for arg in params["args"])
            )
        elif event["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.faults.append(params["entry"]["text"])
        elif event["method"] == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("file:", "data:", "blob:", "about:")):
                self.faults.append(f"asks the network for {url}")

    def run(self, script):
        """Evaluate JavaScript; return its value."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise RuntimeError(done["exceptionDetails"].get("exception", {}).get("description", script))
        return done["result"].get("value")

    def wait_for(self, script, seconds=120):
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"Boolean({script})"):
            if time.monotonic() > end:
                raise TimeoutError(f"not true after {seconds} s: {script}")
            time.sleep(0.05)

    def faults_in_the_end(self):
        """Give what is still under way half a second; return `faults`."""
        self.run("new Promise(done => setTimeout(done, 500))")
        return self.faults

    def screenshot(self, path, element=None):
        """Write what is in the window, or an element of it (a JavaScript expression), as PNG."""
        box, clip = f"{element}.getBoundingClientRect()", {}
        if element:
            sides = {name: self.run(f"{box}.{name}") for name in ("x", "y", "width", "height")}
            clip = {"clip": {**sides, "scale": 1}, "captureBeyondViewport": True}
        shot = self.call("Page.captureScreenshot", format="png", **clip)
        path.write_bytes(base64.b64decode(shot["data"]))
