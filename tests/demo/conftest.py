"""A browser, and a page of each kind."""

import pytest

from keras_crossvit.demo.page import DIGITS, write_demo
from tests.demo.page_helpers import opened
from tests.helpers.browser import chromium, served
from tests.helpers.exports import confident_model, write_export
from tests.helpers.shared import made_once


def page_of(tmp_path_factory, name, model, **options):
    """A page of the worker's own; its file is exported once for all."""

    def write(folder):
        return write_export(model, folder / "model.tflite", inputs="image", **options)

    return write_demo(made_once(tmp_path_factory, f"page-{name}", write), tmp_path_factory.mktemp(name) / "page")


@pytest.fixture(scope="package")
def browser():
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="package")
def images_page(tmp_path_factory, browser):  # needs the browser, so that nothing is exported without one
    return page_of(tmp_path_factory, "images", confident_model(), outputs=("logits", "explanation"))


@pytest.fixture(scope="package")
def digits_page(tmp_path_factory, browser):
    return page_of(tmp_path_factory, "digits", confident_model(num_classes=10, class_names=DIGITS))


@pytest.fixture
def image_site(browser, images_page):
    with served(images_page) as url:
        yield opened(browser, url)


@pytest.fixture
def digit_site(browser, digits_page):
    with served(digits_page) as url:
        yield opened(browser, url)
