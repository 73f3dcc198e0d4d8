"""Makes pages and images, and reads what a page shows."""

import base64
import io
import time

import numpy as np
from PIL import Image
from selenium.webdriver.common.by import By

from keras_crossvit.demo import write_demo
from tests.helpers.exports import write_export

TIMEOUT = 20
# Drops or pastes a file, given in base64.
DELIVER = """
const [kind, name, content] = arguments;
const bytes = Uint8Array.from(atob(content), (each) => each.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], name));
const options = { bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data };
document.dispatchEvent(new (kind === "drop" ? DragEvent : ClipboardEvent)(kind, options));
"""


def write_page(model, folder):
    write_export(model, folder / "model.tflite", inputs="image")
    return write_demo(folder / "model.tflite", folder / "page")


def opened(browser, url):
    browser.get(url)
    until(lambda: browser.find_elements(By.CSS_SELECTOR, "#controls:enabled"), browser)
    return browser


def status(browser):
    return browser.find_element(By.ID, "status").text


def until(condition, browser):
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, f"status: {status(browser)}"
        time.sleep(0.02)


def answers(browser):
    """Waits for results; returns the probabilities of the listed classes by name."""
    until(lambda: browser.find_element(By.ID, "results").get_attribute("data-state") == "filled", browser)
    rows = browser.find_elements(By.CSS_SELECTOR, "#classes li")
    return {row.find_element(By.CLASS_NAME, "class").text: float(row.get_attribute("data-probability")) for row in rows}


def photograph(height, width, channels=3):
    """Smooth shapes with noise."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = [np.sin(9 * x * (c + 1)) + np.cos(7 * y + c) for c in range(channels)]
    noise = np.random.default_rng(0).normal(0, 12, (height, width, channels))
    return np.clip(np.stack(waves, axis=-1) * 60 + 128 + noise, 0, 255).astype("uint8")


IMAGES = {
    "wide.png": photograph(300, 517),
    "tall.png": photograph(300, 200),
    "very_tall.png": photograph(701, 200),
    "exact.png": photograph(48, 48),
    "smaller.png": photograph(20, 31),
    "one_line.png": photograph(1, 60),
    "gray.png": photograph(120, 90, 1)[..., 0],
    "transparent.png": np.dstack([photograph(80, 100), np.indices((80, 100))[1].astype("uint8") // 50 * 255]),
}


def deliver(browser, kind, name):
    file = io.BytesIO()
    Image.fromarray(IMAGES[name]).save(file, "PNG")
    browser.execute_script(DELIVER, kind, name, base64.b64encode(file.getvalue()).decode())
