"""A browser, and a page of each kind."""

import pytest

from keras_crossvit.demo.page import DIGITS
from tests.demo.page_helpers import opened, write_page
from tests.helpers.browser import chromium, served
from tests.helpers.exports import confident_model


@pytest.fixture(scope="package")
def browser():
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="package")
def images_page(tmp_path_factory, browser):  # needs the browser, so that nothing is exported without one
    return write_page(confident_model(), tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="package")
def digits_page(tmp_path_factory, browser):
    return write_page(confident_model(num_classes=10, class_names=DIGITS), tmp_path_factory.mktemp("digits"))


@pytest.fixture
def image_site(browser, images_page):
    with served(images_page) as url:
        yield opened(browser, url)


@pytest.fixture
def digit_site(browser, digits_page):
    with served(digits_page) as url:
        yield opened(browser, url)
