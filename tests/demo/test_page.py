"""The page in Chromium: the same inputs and answers as in Python, and what it says to people."""

import io
import time

import keras
import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from keras_crossvit.data import preprocess
from keras_crossvit.data.pictures import read_picture
from keras_crossvit.demo import write_demo
from keras_crossvit.demo.facts import DIGITS
from keras_crossvit.export import litert
from keras_crossvit.export.tracing import in_float32
from keras_crossvit.metadata import metadata_of
from keras_crossvit.runtimes import load_runtime
from tests.commands.test_predict import png_header
from tests.helpers.browser import chromium, served
from tests.helpers.exports import small_model

PATIENCE = 20  # seconds until a page that does not change is given up
# float32 has seven digits; sums in another order cost one or two of the last.
ROUNDING = 5e-6
INPUTS_OF_PAGE = """
const [path, done] = arguments;
const modules = ["pictures", "preprocessing", "model"].map((name) => import(new URL(`${name}.js`, document.baseURI)));
Promise.all(modules).then(async ([pictures, preprocessing, model]) => {
  const facts = await model.loadFacts();
  const picture = await pictures.readPicture(await (await fetch(path)).blob(), facts.mostPixels);
  return preprocessing.preprocess(picture, facts).map((input) => Array.from(input));
}).then(done, (error) => done(String(error)));
"""
INPUTS_OF_DRAWING = """
const [strokes, done] = arguments;
const modules = ["digits", "preprocessing", "model"].map((name) => import(new URL(`${name}.js`, document.baseURI)));
Promise.all(modules).then(async ([digits, preprocessing, model]) => {
  const facts = await model.loadFacts();
  const picture = digits.digitPicture(strokes, facts.drawing);
  return [picture.rows(0, picture.height), ...preprocessing.preprocess(picture, facts)].map((each) => Array.from(each));
}).then(done, (error) => done(String(error)));
"""
SEVEN = [[[60, 40], [210, 40], [120, 240]], [[90, 140], [190, 140]]]


@pytest.fixture(scope="module")
def browser():
    with chromium() as driver:
        yield driver


def confident_model(**arguments):
    """A model whose fresh weights give far from equal probabilities, so that other inputs give other answers."""
    keras.utils.set_random_seed(0)
    model = small_model(**arguments)
    for weight in model.trainable_weights:
        if weight.path.endswith("kernel"):
            weight.assign(weight * 6)
    return model


def write_page(model, folder):
    file = folder / "model.tflite"
    litert.write(in_float32(model), file, metadata_of(model), quantize=None, batch_size=1)
    return write_demo(file, folder / "page")


@pytest.fixture(scope="module")
def pictures_page(tmp_path_factory, browser):  # the browser first, without which nothing need be made
    return write_page(confident_model(), tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def digits_page(tmp_path_factory, browser):
    return write_page(confident_model(num_classes=10, classes=DIGITS), tmp_path_factory.mktemp("digits"))


@pytest.fixture
def picture_site(browser, pictures_page):
    with served(pictures_page) as url:
        yield opened(browser, url)


@pytest.fixture
def digit_site(browser, digits_page):
    with served(digits_page) as url:
        yield opened(browser, url)


def opened(browser, url):
    browser.get(url)
    until(lambda: browser.find_elements(By.CSS_SELECTOR, "#controls:enabled"), browser)
    return browser


def status(browser):
    return browser.find_element(By.ID, "status").text


def until(condition, browser):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"the page says: {status(browser)}"
        time.sleep(0.02)


def answers(browser):
    """Probabilities of the listed classes by name, once there are any."""
    until(lambda: browser.find_element(By.ID, "results").get_attribute("data-state") == "filled", browser)
    rows = browser.find_elements(By.CSS_SELECTOR, "#classes li")
    return {row.find_element(By.CLASS_NAME, "class").text: float(row.get_attribute("data-probability")) for row in rows}


def photograph(height, width, channels=3):
    """Smooth shapes with noise, as a photograph has."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = [np.sin(9 * x * (c + 1)) + np.cos(7 * y + c) for c in range(channels)]
    noise = np.random.default_rng(0).normal(0, 12, (height, width, channels))
    return np.clip(np.stack(waves, axis=-1) * 60 + 128 + noise, 0, 255).astype("uint8")


def turned_jpeg():
    file = io.BytesIO()
    picture = Image.fromarray(photograph(90, 200))
    exif = picture.getexif()
    exif[0x0112] = 6  # orientation: turned by a quarter
    picture.save(file, "JPEG", exif=exif, quality=95)
    return file.getvalue()


PICTURES = {
    "wide.png": photograph(300, 517),
    "tall.png": photograph(300, 200),
    "very_tall.png": photograph(701, 200),
    "exact.png": photograph(48, 48),
    "smaller.png": photograph(20, 31),
    "one_line.png": photograph(1, 60),
    "gray.png": photograph(120, 90, 1)[..., 0],
    "transparent.png": np.dstack([photograph(80, 100), np.indices((80, 100))[1].astype("uint8") // 50 * 255]),
}


@pytest.mark.parametrize("name", PICTURES)
def test_inputs_are_those_of_preprocess(picture_site, pictures_page, name):
    Image.fromarray(PICTURES[name]).save(pictures_page / name)
    wanted = preprocess(read_picture(pictures_page / name), load_runtime(pictures_page / "model.tflite"))
    inputs = picture_site.execute_async_script(INPUTS_OF_PAGE, name)
    for found, expected in zip(inputs, wanted, strict=True):
        np.testing.assert_allclose(np.reshape(found, expected.shape), expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("name", ["wide.png", "turned.jpg"])
def test_answers_are_those_of_python(picture_site, pictures_page, tmp_path, name):
    file = tmp_path / name
    if name in PICTURES:
        Image.fromarray(PICTURES[name]).save(file)
    else:
        file.write_bytes(turned_jpeg())
    runtime = load_runtime(pictures_page / "model.tflite")
    (wanted,) = runtime.probabilities(*preprocess(read_picture(file), runtime))
    picture_site.find_element(By.ID, "file").send_keys(str(file))
    found = answers(picture_site)
    assert next(iter(found)) == runtime.classes[wanted.argmax()]
    assert wanted.max() > 0.3  # or equal probabilities would pass
    for name, probability in zip(runtime.classes, wanted, strict=True):
        assert found[name] == pytest.approx(probability, abs=1e-3)
    assert status(picture_site).startswith(next(iter(found)))
    assert picture_site.find_element(By.ID, "time").text.endswith(" ms")


def test_nothing_comes_from_another_host(picture_site):
    program = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    hosts = {"/".join(name.split("/")[:3]) for name in picture_site.execute_script(program)}
    assert hosts == {picture_site.current_url.rstrip("/")}


def test_the_camera_gives_a_picture_and_is_switched_off(picture_site):
    picture_site.find_element(By.ID, "camera").click()
    playing = "return document.getElementById('video').readyState >= 2"
    until(lambda: picture_site.execute_script(playing), picture_site)
    picture_site.find_element(By.ID, "shoot").click()
    assert len(answers(picture_site)) == 5
    picture_site.find_element(By.ID, "stop").click()
    assert picture_site.execute_script("return document.getElementById('video').srcObject") is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.jpg", b"no picture", "“notes.jpg” is no picture that this browser can read"),
        ("empty.png", b"", "“empty.png” is empty"),
        ("huge.png", png_header(50_000, 50_000), "“huge.png” is too large: 50000 "),
        ("cut.png", png_header(60, 60), "“cut.png” is no picture that this browser can read"),
    ],
)
def test_files_that_are_no_pictures_are_named(picture_site, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    picture_site.find_element(By.ID, "file").send_keys(str(tmp_path / name))
    until(lambda: message in status(picture_site), picture_site)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "model.tflite cannot be loaded: the server answers 404"),
        (b"TFL3 no model", "model.tflite is no model that LiteRT.js can run"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_named(browser, pictures_page, content, message):
    model = pictures_page / "model.tflite"
    whole = model.read_bytes()
    try:
        model.unlink()
        if content is not None:
            model.write_bytes(content)
        with served(pictures_page) as url:
            browser.get(url)
            until(lambda: message in status(browser), browser)
    finally:
        model.write_bytes(whole)


def test_a_drawing_becomes_what_quickstart_makes_of_its_digits(digit_site, digits_page):
    counts, *inputs = digit_site.execute_async_script(INPUTS_OF_DRAWING, SEVEN)
    picture = np.array(counts, "float32").reshape(8, 8)
    assert picture[0].max() == picture.max() == 255  # dark to the border, as the digits are
    wanted = preprocess(picture, load_runtime(digits_page / "model.tflite"), crop_fraction=1.0)
    for found, expected in zip(inputs, wanted, strict=True):
        np.testing.assert_allclose(np.reshape(found, expected.shape), expected, rtol=0, atol=ROUNDING)


def test_size_and_place_of_a_drawing_do_not_matter(digit_site):
    moved = [[[30 + 0.4 * x, 90 + 0.4 * y] for x, y in stroke] for stroke in SEVEN]
    drawings = [digit_site.execute_async_script(INPUTS_OF_DRAWING, each)[0] for each in (SEVEN, moved)]
    # Rounding may move single pixels of the bitmap over the pen's edge.
    np.testing.assert_allclose(*drawings, rtol=0, atol=2 * 255 / 16)


def test_a_digit_can_be_drawn_and_cleared(digit_site):
    pad = digit_site.find_element(By.ID, "pad")
    ActionChains(digit_site, duration=5).drag_and_drop_by_offset(pad, 40, 80).perform()
    assert len(answers(digit_site)) == 5
    digit_site.find_element(By.ID, "clear").click()
    until(lambda: status(digit_site) == "Draw a digit.", digit_site)
    assert not digit_site.find_elements(By.CSS_SELECTOR, "#classes li")


def test_a_digit_can_be_drawn_by_taps(digit_site):
    pad = digit_site.find_element(By.ID, "pad")
    digit_site.find_element(By.ID, "tapping").click()
    for x, y in ((0, -60), (0, 60)):
        ActionChains(digit_site, duration=5).move_to_element_with_offset(pad, x, y).click().perform()
    assert len(answers(digit_site)) == 5


def test_a_digit_can_be_drawn_by_keyboard(digit_site):
    digit_site.find_element(By.ID, "pad").send_keys(Keys.SPACE, *[Keys.ARROW_DOWN] * 10, Keys.SPACE)
    assert len(answers(digit_site)) == 5
