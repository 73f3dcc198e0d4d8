"""Chromium, driven without a window, and a static server for it."""

import contextlib
import functools
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

_SWITCHES = (
    "--headless=new",
    "--no-sandbox",  # which root has no use of
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # a page that asks other hosts fails
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
)
_SECONDS = 60  # until a page that does not answer is given up


@contextlib.contextmanager
def chromium():
    """A driver of Chromium; skips the test where it, or its driver, is not installed."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no Chromium with chromedriver is installed")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for switch in _SWITCHES:
        options.add_argument(switch)
    started = webdriver.Chrome(options=options, service=Service(driver))
    started.set_script_timeout(_SECONDS)
    try:
        yield started
    finally:
        started.quit()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        """Says nothing among the results."""


@contextlib.contextmanager
def served(folder):
    """Serves a folder as `python -m http.server` does, on a free port of loopback; yields the URL."""
    handler = functools.partial(_QuietHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
