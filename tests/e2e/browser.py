"""A headless Chromium that is driven as a person drives it: mouse and keys, by the DevTools protocol over a pipe."""
import fcntl
import itertools
import json
import os
import shutil
import subprocess
import tempfile

from conftest import wait_until


class Tab:
    """One page. The browser is asked through its descriptor 3 and answers on 4, each message ends in a NUL."""

    def __init__(self, *flags):
        self.home = tempfile.mkdtemp()
        ask_r, self.ask = os.pipe()
        self.told, told_w = os.pipe()

        def place():
            high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (ask_r, told_w)]
            for fd, at in zip(high, (3, 4)):
                os.dup2(fd, at)

        args = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
                f"--user-data-dir={self.home}", "--remote-debugging-pipe", *flags]
        self.proc = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False, preexec_fn=place,
                                     env={**os.environ, "HOME": self.home})
        os.close(ask_r)
        os.close(told_w)
        self.rest, self.number, self.session = b"", itertools.count(1), None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(self, method, **params):
        n = next(self.number)
        what = {"id": n, "method": method, "params": params, **({"sessionId": self.session} if self.session else {})}
        os.write(self.ask, json.dumps(what).encode() + b"\0")
        while True:
            message, nul, self.rest = self.rest.partition(b"\0")
            if not nul:
                part = os.read(self.told, 1 << 16)
                assert part, "the browser has ended"
                self.rest = message + part
            elif json.loads(message).get("id") == n:
                got = json.loads(message)
                assert "error" not in got, got
                return got["result"]

    def run(self, script):
        """The script's value; of a promise what it gives."""
        got = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in got, got
        return got["result"].get("value")

    def open(self, url):
        self.call("Page.navigate", url=url)
        self.wait(f"document.readyState === 'complete' && location.href.startsWith({json.dumps(url)})")

    def wait(self, script):
        wait_until(lambda: self.run(f"!!({script})"), lambda: f"{script}\n{self.run('document.body.innerText')}")

    def click(self, element):
        """element: a script that gives it."""
        x, y = self.run(f"(() => {{ const r = ({element}).getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def close(self):
        self.proc.kill()
        self.proc.wait()
        os.close(self.ask)
        os.close(self.told)
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.close()
