"""A headless Chromium over its DevTools protocol: one tab, its keys, its colours. For the tests that look at pages."""

import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
import tempfile

import websockets

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--remote-debugging-port=0",
]
LOOKS = 300
PAUSE = 0.1
# The least contrast of text (WCAG 2.2, 1.4.3).
CONTRAST = 4.5


class Page:
    """One tab; every call waits for its answer."""

    def __init__(self, socket):
        self.socket, self.session, self.numbers = socket, None, itertools.count(1)
        #: What the page's scripts threw, and what they wrote to the console as errors.
        self.errors = []

    async def call(self, method, **params):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        await self.socket.send(json.dumps(message))
        while True:
            answer = json.loads(await asyncio.wait_for(self.socket.recv(), 30))
            self._note(answer)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def _note(self, message):
        said = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            details = said["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        if message.get("method") == "Runtime.consoleAPICalled" and said["type"] == "error":
            self.errors.append(" ".join(str(one.get("value", one.get("description"))) for one in said["args"]))

    async def value(self, expression):
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        return answer["result"].get("value")

    async def until(self, expression, wanted):
        for _ in range(LOOKS):
            found = await self.value(expression)
            if found == wanted:
                return True
            await asyncio.sleep(PAUSE)
        print(f"`{expression}` stays {found!r} instead of {wanted!r}")
        return False

    async def press(self, key, code, text=None):
        names = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        await self.call("Input.dispatchKeyEvent", **down, **names)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **names)


def luminance(color):
    """Of `rgb(r, g, b)`, as WCAG 2.2 defines it."""
    channels = [float(part) / 255 for part in color[color.index("(") + 1:-1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(ground, text):
    """Of two colours, as WCAG 2.2 defines it."""
    darker, lighter = sorted([luminance(ground), luminance(text)])
    return (lighter + 0.05) / (darker + 0.05)


@contextlib.contextmanager
def started(browser):
    """The address of a browser of its own, which ends with it; None when it does not start."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [browser, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        try:
            listening = "DevTools listening on "
            lines = (line.strip() for line in process.stderr)
            yield next((line.removeprefix(listening) for line in lines if line.startswith(listening)), None)
        finally:
            process.kill()
            process.wait()


@contextlib.asynccontextmanager
async def opened(address, url):
    """A tab that shows the page."""
    async with websockets.connect(address, max_size=None) as socket:
        page = Page(socket)
        target = await page.call("Target.createTarget", url="about:blank")
        attached = await page.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page.session = attached["sessionId"]
        await page.call("Runtime.enable")
        await page.call("Page.navigate", url=url)
        yield page


def run(look):
    """`look(page)` of the page that the command line names, in the browser that it names; what the program exits with."""
    browser, url = sys.argv[1:3]

    async def all_of_it(address):
        async with opened(address, url) as page:
            return await look(page)

    with started(browser) as address:
        if address is None:
            print("the browser does not start")
            return 1
        return 0 if asyncio.run(all_of_it(address)) else 1
