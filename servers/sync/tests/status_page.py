"""The status page under a keyboard, in the light and in the dark: drives a headless Chromium over its DevTools protocol.

Usage: status_page.py BROWSER URL. Says what is wrong, a line each, and then exits with 1.
"""

import asyncio
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

    async def call(self, method, **params):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        await self.socket.send(json.dumps(message))
        while True:
            answer = json.loads(await asyncio.wait_for(self.socket.recv(), 30))
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    async def value(self, expression):
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
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


async def keyboard(page):
    """Tab reaches the button and shows where it is; Enter presses it, and again takes that back."""
    pressed = "document.getElementById('pause').getAttribute('aria-pressed')"
    for _ in range(10):
        await page.press("Tab", 9)
        if await page.value("document.activeElement.id") == "pause":
            break
    else:
        print("ten times Tab do not reach the button")
        return False
    shown = "((style) => style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0)" \
            "(getComputedStyle(document.activeElement))"
    well = True
    if not await page.value(shown):
        print("a button that has the keyboard looks like one that has not")
        well = False
    for wanted in ["true", "false"]:
        await page.press("Enter", 13, "\r")
        well = await page.until(pressed, wanted) and well
    return well


async def colours(page):
    """The page follows what the reader's system asks for, and its text can be read in both."""
    well, seen = True, {}
    for scheme in ["light", "dark"]:
        await page.call("Emulation.setEmulatedMedia",
                        features=[{"name": "prefers-color-scheme", "value": scheme}])
        ground = await page.value("getComputedStyle(document.documentElement).backgroundColor")
        if ground == "rgba(0, 0, 0, 0)":
            ground = await page.value("getComputedStyle(document.body).backgroundColor")
        text = await page.value("getComputedStyle(document.body).color")
        pair = sorted([luminance(ground), luminance(text)])
        seen[scheme] = luminance(ground)
        if (pair[1] + 0.05) / (pair[0] + 0.05) < CONTRAST:
            print(f"{scheme}: {text} on {ground} can hardly be read")
            well = False
    if not seen["dark"] < 0.2 < 0.6 < seen["light"]:
        print(f"the page does not follow the system's colours: {seen}")
        well = False
    return well


async def look(address, url):
    async with websockets.connect(address, max_size=None) as socket:
        page = Page(socket)
        target = await page.call("Target.createTarget", url=url)
        attached = await page.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page.session = attached["sessionId"]
        well = await page.until("document.getElementById('state')?.textContent", "Serving.")
        return await keyboard(page) and await colours(page) and well


def main():
    browser, url = sys.argv[1:]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [browser, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        try:
            listening = "DevTools listening on "
            lines = (line.strip() for line in process.stderr)
            address = next((line.removeprefix(listening) for line in lines if line.startswith(listening)), None)
            if address is None:
                print("the browser does not start")
                return 1
            return 0 if asyncio.run(look(address, url)) else 1
        finally:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
