"""The status page under a keyboard, in the light and in the dark: drives a headless Chromium over its DevTools protocol.

Usage: status_page.py BROWSER URL. Says what is wrong, a line each, and then exits with 1.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "xtask/devtools"))
from devtools import CONTRAST, contrast, luminance, run  # noqa: E402


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
        seen[scheme] = luminance(ground)
        if contrast(ground, text) < CONTRAST:
            print(f"{scheme}: {text} on {ground} can hardly be read")
            well = False
    if not seen["dark"] < 0.2 < 0.6 < seen["light"]:
        print(f"the page does not follow the system's colours: {seen}")
        well = False
    return well


async def look(page):
    well = await page.until("document.getElementById('state')?.textContent", "Serving.")
    return await keyboard(page) and await colours(page) and well


if __name__ == "__main__":
    sys.exit(run(look))
