"""A Chromium for tests of pages."""

import os
import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_chromium(playwright):
    """Path of a Chromium: that of CHROMIUM in the environment, playwright's own, or one on PATH."""
    own = playwright.chromium.executable_path
    found = [os.environ.get("CHROMIUM"), own if os.path.exists(own) else None]
    return next(filter(None, [*found, *map(shutil.which, CHROMIUM)]), None)


@contextmanager
def chromium():
    """A headless browser. The test is skipped where playwright or a Chromium is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        path = find_chromium(playwright)
        if path is None:
            pytest.skip("no Chromium was found (CHROMIUM names one)")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
