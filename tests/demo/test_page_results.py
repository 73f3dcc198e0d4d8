"""The page in Chromium computes the same pixels and probabilities as Python."""

import io
import re

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.by import By

from keras_crossvit.preprocessing import preprocess
from keras_crossvit.preprocessing.images import read_image
from keras_crossvit.runtimes import load_runtime
from tests.demo.page_helpers import IMAGES, answers, deliver, opened, photograph, status, until, write_page
from tests.helpers.browser import served
from tests.helpers.exports import confident_model, overflowing_model

PIXELS_OF_IMAGE = """
const [path, done] = arguments;
const modules = ["images", "preprocessing", "model"].map((name) => import(new URL(`${name}.js`, document.baseURI)));
Promise.all(modules).then(async ([images, preprocessing, model]) => {
  const config = await model.loadConfig();
  const image = await images.readImage(await (await fetch(path)).blob(), config.maxPixels);
  return Array.from(preprocessing.preprocess(image, config));
}).then(done, (error) => done(String(error)));
"""
PIXELS_OF_DRAWING = """
const [strokes, done] = arguments;
const modules = ["digits", "preprocessing", "model"].map((name) => import(new URL(`${name}.js`, document.baseURI)));
Promise.all(modules).then(async ([digits, preprocessing, model]) => {
  const config = await model.loadConfig();
  const image = digits.digitImage(strokes, config.drawing);
  return [image.rows(0, image.height), preprocessing.preprocess(image, config)].map((each) => Array.from(each));
}).then(done, (error) => done(String(error)));
"""
# Probabilities of several inputs, requested one after the other and concurrently.
PROBABILITIES_IN_TURN_AND_CONCURRENT = """
const [count, done] = arguments;
import(new URL("model.js", document.baseURI)).then(async ({ loadConfig, loadModel }) => {
  const config = await loadConfig();
  const model = await loadModel(config, () => {});
  const [height, width] = config.imageSizes[0];
  const inputs = Array.from({ length: count }, (_, k) =>
    Uint8Array.from({ length: height * width * config.channels }, (_, i) => 127 + 120 * Math.sin((k + 1) * i)));
  const inTurn = [];
  for (const each of inputs) inTurn.push((await model(each)).probabilities);
  const concurrent = (await Promise.all(inputs.map((each) => model(each)))).map(({ probabilities }) => probabilities);
  return [inTurn, concurrent];
}).then(done, (error) => done(String(error)));
"""
HEAT = """
const { height, width } = arguments[0];
return [height, width, Array.from(arguments[0].getContext("2d").getImageData(0, 0, width, height).data)];
"""
SEVEN = [[[60, 40], [210, 40], [120, 240]], [[90, 140], [190, 140]]]


def rotated_jpeg():
    file = io.BytesIO()
    image = Image.fromarray(photograph(90, 200))
    exif = image.getexif()
    exif[0x0112] = 6  # orientation: rotated by 90 degrees
    image.save(file, "JPEG", exif=exif, quality=95)
    return file.getvalue()


@pytest.mark.parametrize("name", IMAGES)
def test_pixels_match_preprocess(image_site, images_page, name):
    Image.fromarray(IMAGES[name]).save(images_page / name)
    (wanted,) = preprocess(read_image(images_page / name), load_runtime(images_page / "model.tflite"))
    pixels = image_site.execute_async_script(PIXELS_OF_IMAGE, name)
    np.testing.assert_array_equal(np.reshape(pixels, wanted.shape), wanted)


@pytest.mark.parametrize("name", ["wide.png", "rotated.jpg"])
def test_probabilities_match_python(image_site, images_page, tmp_path, name):
    file = tmp_path / name
    if name in IMAGES:
        Image.fromarray(IMAGES[name]).save(file)
    else:
        file.write_bytes(rotated_jpeg())
    runtime = load_runtime(images_page / "model.tflite")
    (wanted,) = runtime.probabilities(*preprocess(read_image(file), runtime))
    image_site.find_element(By.ID, "file").send_keys(str(file))
    found = answers(image_site)
    assert next(iter(found)) == runtime.class_names[wanted.argmax()]
    assert wanted.max() > 0.3  # or almost equal probabilities would pass
    for name, probability in zip(runtime.class_names, wanted, strict=True):
        assert found[name] == pytest.approx(probability, abs=1e-3)
    assert status(image_site).startswith(next(iter(found)))
    assert image_site.find_element(By.ID, "time").text.endswith(" ms")


def test_concurrent_images_get_their_own_probabilities(browser, images_page):
    (import_map,) = re.findall("<script type=.importmap.*", (images_page / "index.html").read_text())
    (images_page / "empty.html").write_text(import_map)  # without main.js, which loads the model itself
    with served(images_page) as url:
        browser.get(f"{url}/empty.html")
        in_turn, concurrent = browser.execute_async_script(PROBABILITIES_IN_TURN_AND_CONCURRENT, 6)
    assert len({tuple(each) for each in in_turn}) == 6
    assert concurrent == in_turn


def test_one_class_has_its_sigmoid_and_without_explanations_there_is_no_switch(browser, tmp_path):
    page = write_page(confident_model(num_classes=1, class_names=["dog"]), tmp_path)
    runtime = load_runtime(page / "model.tflite")
    ((wanted,),) = runtime.probabilities(*preprocess(IMAGES["wide.png"], runtime))
    assert 0.001 < wanted < 0.999
    with served(page) as url:
        opened(browser, url)
        assert browser.find_element(By.ID, "about").text == "Recognizes one class of images."
        deliver(browser, "drop", "wide.png")
        assert answers(browser) == {"dog": pytest.approx(wanted, abs=1e-3)}
        assert not browser.find_element(By.ID, "show-heat").is_displayed()


def test_logits_that_are_not_finite_are_an_error(browser, tmp_path):
    with served(write_page(overflowing_model(), tmp_path)) as url:
        deliver(opened(browser, url), "drop", "wide.png")
        until(lambda: "not finite" in status(browser), browser)
        assert not browser.find_elements(By.CSS_SELECTOR, "#classes li")
        assert browser.find_element(By.ID, "status").get_attribute("data-kind") == "error"


def test_page_loads_nothing_from_other_hosts(image_site):
    program = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    hosts = {"/".join(name.split("/")[:3]) for name in image_site.execute_script(program)}
    assert hosts == {image_site.current_url.rstrip("/")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "404"),
        (b"TFL3 no model", "cannot run model.tflite"),
    ],
)
def test_model_that_cannot_be_loaded_is_an_error(browser, images_page, content, message):
    model = images_page / "model.tflite"
    whole = model.read_bytes()
    try:
        model.unlink()
        if content is not None:
            model.write_bytes(content)
        with served(images_page) as url:
            browser.get(url)
            until(lambda: message in status(browser), browser)
    finally:
        model.write_bytes(whole)


def test_drawing_is_preprocessed_like_the_digits_of_quickstart(digit_site, digits_page):
    ink, pixels = digit_site.execute_async_script(PIXELS_OF_DRAWING, SEVEN)
    image = np.array(ink, "uint8").reshape(8, 8)
    assert image[0].max() == image.max() == 255  # ink up to the border, like the training digits
    (wanted,) = preprocess(image, load_runtime(digits_page / "model.tflite"), crop_fraction=1.0)
    np.testing.assert_array_equal(np.reshape(pixels, wanted.shape), wanted)


def test_size_and_position_of_a_drawing_do_not_matter(digit_site):
    moved = [[[30 + 0.4 * x, 90 + 0.4 * y] for x, y in stroke] for stroke in SEVEN]
    drawings = [digit_site.execute_async_script(PIXELS_OF_DRAWING, each)[0] for each in (SEVEN, moved)]
    # Rounding may move single pixels across the edge of the pen.
    np.testing.assert_allclose(*drawings, rtol=0, atol=2 * 16)


def test_a_switch_shows_what_speaks_for_the_first_class(image_site, images_page):
    deliver(image_site, "drop", "wide.png")
    answers(image_site)
    canvases = [image_site.find_element(By.ID, f"{scale}-heat") for scale in ("small-patch", "large-patch")]
    assert not any(each.is_displayed() for each in canvases)
    image_site.find_element(By.ID, "show-heat").click()
    assert all(each.is_displayed() for each in canvases)
    shown = np.asarray(Image.open(io.BytesIO(canvases[0].screenshot_as_png)).convert("RGB")).astype(int)
    assert np.ptp(shown, axis=2).max() > 60  # over the image, which is gray then
    painted = [image_site.execute_script(HEAT, each) for each in canvases]
    runtime = load_runtime(images_page / "model.tflite", threads=1)
    found = runtime.explanations(*preprocess(IMAGES["wide.png"], runtime))
    densities = [found[f"{scale}_explanation"][0] for scale in ("small_patch", "large_patch")]
    densities = [each * each.size for each in densities]
    largest = max(np.abs(each).max() for each in densities)
    for (height, width, pixels), density in zip(painted, densities, strict=True):
        red, _, blue, alpha = np.moveaxis(np.reshape(pixels, (height, width, 4)).astype("float32"), -1, 0)
        np.testing.assert_allclose(alpha / 255 / 0.85, np.abs(density) / largest, atol=0.02)  # 8 bits, and rounding
        visible = alpha > 40
        np.testing.assert_array_equal((red > blue)[visible], (density > 0)[visible])
