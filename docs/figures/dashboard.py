"""Makes dashboard.png: `python docs/figures/dashboard.py` runs the demo and takes a picture of its dashboard.

What it shows is a real run: `nearline demo` with its own defaults, some seconds after tastes have changed.
Needs playwright and chromium, as tests/serve/dashboard does.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
WIDTH, SCALE, COLOURS = 1280, 1.5, 64
AFTER_SHOCK = 27.0
SHOCK = 30.0


def main() -> None:
    """Run, wait, take the picture, stop."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "nearline", "demo", "--headless", "--out", folder]
        demo = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            assert demo.stderr is not None
            found = next(filter(None, (re.search(r"dashboard: (\S+)", line) for line in demo.stderr)))
            picture(found[1], HERE / "dashboard.png")
        finally:
            demo.terminate()
            demo.communicate()


def picture(url: str, path: Path) -> None:
    """The page down to its versions, in few colours."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": WIDTH, "height": 900}, device_scale_factor=SCALE, color_scheme="light"
        )
        page.goto(url)
        page.wait_for_selector("body[data-state=live]")
        page.evaluate("document.documentElement.style.setProperty('--font', 'Inter, system-ui, sans-serif')")
        page.wait_for_timeout(1000 * (SHOCK + AFTER_SHOCK))
        page.screenshot(path=path, full_page=True, clip=above_the_entities(page))
        browser.close()
    Image.open(path).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def above_the_entities(page: Page) -> dict[str, float]:
    """The part of the page that is drawn."""
    box = page.locator("section.busiest").bounding_box()
    assert box is not None
    return {"x": 0.0, "y": 0.0, "width": float(WIDTH), "height": box["y"] - 6.0}


if __name__ == "__main__":
    main()
