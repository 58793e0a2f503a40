"""The sample app's screens in a headless Chromium, over a module in memory (web/module.ts), used by keyboard.

Usage: screens.py BROWSER URL. Says what is wrong, a line each, and then exits with 1.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "xtask/devtools"))
from devtools import CONTRAST, contrast, luminance, run  # noqa: E402

FAMILY = "fa" * 32
TEXT = "document.body.innerText"
#: The narrowest phone that is still sold, in CSS pixels.
PHONE = {"width": 320, "height": 640, "deviceScaleFactor": 1, "mobile": True}
#: Least side of what is touched (WCAG 2.2, 2.5.8).
TOUCH = 24


class Wrong(Exception):
    """What is not as it should be: the rest would only follow from it."""


class Looks:
    """Looks at the page until it shows what it should."""

    def __init__(self, page):
        self.page = page

    async def shows(self, *texts):
        for text in texts:
            await self.is_now(f"{TEXT}.includes({text!r})", True)

    async def hides(self, *texts):
        for text in texts:
            await self.is_now(f"{TEXT}.includes({text!r})", False)

    async def is_now(self, expression, wanted):
        if not await self.page.until(expression, wanted):
            shown = await self.page.value(TEXT)
            raise Wrong(f"The page shows:\n{shown}\nIts script said: {self.page.errors}")

    async def reach(self, label, most=30):
        """Tab gets to what has this label, and it is seen to have the keyboard."""
        for _ in range(most):
            await self.page.press("Tab", 9)
            found = await self.page.value("document.activeElement.getAttribute('aria-label') ?? ''")
            if found.startswith(label):
                outline = "parseFloat(getComputedStyle(document.activeElement).outlineWidth)"
                if not await self.page.value(outline):
                    raise Wrong(f"{label!r} looks the same with the keyboard and without")
                return
        raise Wrong(f"{most} times Tab do not reach {label!r}")


async def chat_list(looks):
    page = looks.page
    # Family's newest message was taken back; the other conversation's is shown.
    await looks.shows("Conversations", "fafafafa", "Taken back", "0b0b0b0b", "The build is green", "Offline",
                      "3 new", "1 new")
    await looks.is_now("document.querySelectorAll('[role=button]').length", 4)
    await looks.is_now("document.querySelector('[aria-label=Join]').getAttribute('aria-disabled')", "true")
    # A ticket that cannot be used is told with its code; a good one is opened.
    await page.value("delta.fail('openTopic', 'argument', 'ticket', 'the text is no ticket')")
    await looks.reach("Ticket")
    await page.call("Input.insertText", text="cc" * 32)
    await page.press("Enter", 13, "\r")
    await looks.shows("the text is no ticket (ticket)")
    await page.press("Enter", 13, "\r")
    await looks.shows("cccccccc", "No messages yet")
    await looks.hides("the text is no ticket")
    await looks.is_now("document.querySelector('[aria-label=Ticket]').value", "")
    await looks.reach("Conversation fafafafa")
    await page.press("Enter", 13, "\r")


async def room(looks):
    page = looks.page
    await looks.shows("Dinner at seven?", "At eight", "edited", "Taken back")
    await looks.hides("The build is green", "to be sent")
    await looks.is_now("document.querySelectorAll('[data-testid=message]').length", 3)
    # The newest lies lowest.
    await looks.is_now(
        "[...document.querySelectorAll('[data-testid=message]')]"
        ".sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top)"
        ".map((one) => one.innerText.split('\\n').at(-1)).join('|')",
        "Dinner at seven?|At eight|Taken back",
    )
    await page.value(f"delta.receive('{FAMILY}', 'I am late')")
    await looks.shows("I am late")


async def composer(looks):
    page = looks.page
    sent = "delta.calls.filter((call) => call.startsWith('publish')).length"
    await looks.is_now("document.querySelector('[aria-label=Send]').getAttribute('aria-disabled')", "true")
    await looks.reach("Message")
    await page.press("Enter", 13, "\r")
    await looks.is_now(sent, 0)
    # One that fails keeps its text and says why.
    await page.value("delta.fail('publish', 'device', 'disk_full', 'the disk is full')")
    await page.call("Input.insertText", text="See you")
    await page.press("Enter", 13, "\r")
    await looks.shows("the disk is full (disk_full)")
    await looks.is_now("document.querySelector('[aria-label=Message]').value", "See you")
    # Again, by the button.
    await looks.reach("Send", 1)
    await page.press("Enter", 13, "\r")
    await looks.shows("See you", "waiting", "1 message waits to be sent")
    await looks.hides("the disk is full")
    await looks.is_now("document.querySelector('[aria-label=Message]').value", "")
    await looks.is_now(sent, 2)
    # Another one, by Enter.
    await page.value("document.querySelector('[aria-label=Message]').focus()")
    await page.call("Input.insertText", text="Soon")
    await page.press("Enter", 13, "\r")
    await looks.shows("Soon", "2 messages wait to be sent")
    await looks.is_now("JSON.stringify(delta.calls.filter((call) => call.includes('Soon')))",
                       '["publish [{\\"kind\\":\\"messageSend\\",\\"text\\":\\"Soon\\",\\"mentions\\":[],\\"attachments\\":[]},null]"]')


async def badge(looks):
    page = looks.page
    label = "document.querySelector('[data-testid=connection]').getAttribute('aria-label')"
    words = [("connecting", "Connecting"), ("replaying", "Catching up"), ("live", "Live"), ("parked", "Resting")]
    for connection, word in words:
        await page.value(f"delta.connect('{FAMILY}', '{connection}')")
        await looks.shows(word)
        await looks.is_now(label, f"Connection: {word}")
    await looks.is_now("document.querySelector('[data-testid=connection]').getAttribute('aria-live')", "polite")
    # Why nothing leaves is said where it waits.
    blocked = "{code: 'no_route', reason: 'too few usable relays'}"
    await page.value(f"delta.connect('{FAMILY}', 'live', {blocked})")
    await looks.shows("2 messages wait to be sent: too few usable relays")
    await page.value(f"delta.connect('{FAMILY}', 'live')")
    await page.value(f"delta.acknowledge('{FAMILY}')")
    await looks.hides("to be sent", "waiting")


async def colours(looks):
    """The app follows what the reader's system asks for, and every text on it can be read in both."""
    page, grounds = looks.page, {}
    texts = """(() => {
        const ground = (node) => {
            for (let at = node; at; at = at.parentElement) {
                const colour = getComputedStyle(at).backgroundColor;
                if (colour !== 'rgba(0, 0, 0, 0)') return colour;
            }
            return 'rgb(255, 255, 255)';
        };
        const shown = [...document.querySelectorAll('#root *')]
            .filter((node) => [...node.childNodes].some((child) => child.nodeType === 3) || node.tagName === 'INPUT');
        return shown.map((node) => [node.innerText || node.tagName, ground(node), getComputedStyle(node).color]);
    })()"""
    for scheme in ["light", "dark"]:
        await page.call("Emulation.setEmulatedMedia",
                        features=[{"name": "prefers-color-scheme", "value": scheme}])
        ground = "[...document.querySelectorAll('#root *')].map((one) => getComputedStyle(one).backgroundColor)" \
                 ".find((colour) => colour !== 'rgba(0, 0, 0, 0)')"
        wanted = {"light": "rgb(255, 255, 255)", "dark": "rgb(16, 18, 22)"}[scheme]
        await looks.is_now(ground, wanted)
        grounds[scheme] = luminance(wanted)
        found = await page.value(texts)
        if len(found) < 8:
            raise Wrong(f"{scheme}: only {len(found)} texts are shown")
        for text, behind, colour in found:
            if contrast(behind, colour) < CONTRAST:
                raise Wrong(f"{scheme}: {text!r}, {colour} on {behind}, can hardly be read")


async def phone(looks):
    """On a narrow phone nothing is cut off, and what is touched is large enough."""
    page = looks.page
    await page.call("Emulation.setDeviceMetricsOverride", **PHONE)
    await looks.is_now("document.documentElement.scrollWidth <= innerWidth", True)
    cut = "[...document.querySelectorAll('[role=button], input')].filter((one) => {" \
          "const box = one.getBoundingClientRect();" \
          f"return box.left < 0 || box.right > innerWidth || box.width < {TOUCH} || box.height < {TOUCH};" \
          "}).map((one) => one.getAttribute('aria-label')).join()"
    await looks.is_now(cut, "")


async def look(page):
    try:
        await walk(Looks(page))
    except Wrong as wrong:
        print(wrong)
        return False
    return True


async def walk(looks):
    page = looks.page
    await chat_list(looks)
    await phone(looks)
    await page.call("Emulation.clearDeviceMetricsOverride")
    await colours(looks)
    await room(looks)
    await composer(looks)
    await phone(looks)
    await page.call("Emulation.clearDeviceMetricsOverride")
    await badge(looks)
    await colours(looks)
    # Back to the list, which shows what was said meanwhile; one subscription per conversation is left.
    await looks.reach("Back")
    await page.press("Enter", 13, "\r")
    await looks.shows("Conversations", "Soon", "1 new")
    await looks.hides("3 new")
    await looks.is_now("delta.subscriptions.size", 3)
    if page.errors:
        raise Wrong(f"the page's script said: {page.errors}")


if __name__ == "__main__":
    sys.exit(run(look))
