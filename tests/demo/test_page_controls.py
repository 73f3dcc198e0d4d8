"""The controls of the page in Chromium."""

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from keras_crossvit.exporting.serving_requests import bytes_of_no_image
from keras_crossvit.preprocessing import preprocess
from keras_crossvit.runtimes import load_runtime
from tests.demo.page_helpers import IMAGES, answers, deliver, status, until

# Delays decoding the first image until the test calls resume().
DELAY_FIRST = """
const decode = createImageBitmap;
let count = 0;
window.createImageBitmap = async (...given) => {
  if (count++ === 0) await new Promise((resolve) => { window.resume = resolve; });
  return decode(...given);
};
"""
DELAY_CAMERA = """
const media = navigator.mediaDevices;
const ask = media.getUserMedia.bind(media);
media.getUserMedia = (request) => new Promise((resolve) => {
  window.allow = async () => {
    const stream = await ask(request);
    window.tracks = stream.getTracks();
    resolve(stream);
  };
});
"""
BRIGHTNESS = """
const pad = document.getElementById("pad");
return pad.getContext("2d").getImageData(arguments[0] * pad.width, arguments[1] * pad.height, 1, 1).data[0];
"""


def test_camera_takes_a_photo_and_turns_off(image_site):
    image_site.find_element(By.ID, "camera").click()
    playing = "return document.getElementById('video').readyState >= 2"
    until(lambda: image_site.execute_script(playing), image_site)
    image_site.find_element(By.ID, "shoot").click()
    assert len(answers(image_site)) == 5
    image_site.find_element(By.ID, "stop").click()
    assert image_site.execute_script("return document.getElementById('video').srcObject") is None


def test_camera_stays_off_if_it_is_turned_off_before_permission(image_site):
    image_site.execute_script(DELAY_CAMERA)
    image_site.find_element(By.ID, "camera").click()
    image_site.find_element(By.ID, "stop").click()
    image_site.execute_async_script("allow().then(() => setTimeout(arguments[0]))")
    assert image_site.execute_script("return tracks.map((track) => track.readyState)") == ["ended"]
    assert image_site.execute_script("return document.getElementById('video').srcObject") is None


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_images_can_be_dropped_and_pasted(image_site, images_page, kind):
    deliver(image_site, kind, "wide.png")
    runtime = load_runtime(images_page / "model.tflite")
    (wanted,) = runtime.probabilities(*preprocess(IMAGES["wide.png"], runtime))
    found = answers(image_site)
    assert [found[name] for name in runtime.class_names] == pytest.approx(wanted.tolist(), abs=1e-3)


def preview_size(browser):
    preview = browser.find_element(By.ID, "preview")
    return [int(preview.get_property(each)) for each in ("naturalHeight", "naturalWidth")]


def test_preview_shows_the_classified_image(image_site):
    image_site.execute_script(DELAY_FIRST)
    deliver(image_site, "drop", "wide.png")
    until(lambda: image_site.execute_script("return Boolean(window.resume)"), image_site)
    deliver(image_site, "drop", "exact.png")
    answers(image_site)
    image_site.execute_async_script("resume(); setTimeout(arguments[0], 200)")
    until(lambda: preview_size(image_site) == [48, 48], image_site)


def test_unreadable_image_has_no_preview(image_site, tmp_path):
    deliver(image_site, "drop", "exact.png")
    answers(image_site)
    (tmp_path / "notes.jpg").write_text("not an image")
    image_site.find_element(By.ID, "file").send_keys(str(tmp_path / "notes.jpg"))
    until(lambda: "cannot read “notes.jpg”" in status(image_site), image_site)
    assert not image_site.find_element(By.ID, "preview").is_displayed()


@pytest.mark.parametrize("site", ["image_site", "digit_site"])
@pytest.mark.parametrize(("width", "columns"), [(320, 1), (390, 1), (1280, 2)])
def test_page_fits_phones_and_desktops(site, width, columns, request):
    browser = request.getfixturevalue(site)
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": columns == 1}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        if site == "image_site":
            deliver(browser, "drop", "wide.png")
        else:
            ActionChains(browser, duration=5).drag_and_drop_by_offset(
                browser.find_element(By.ID, "pad"), 40, 80
            ).perform()
        answers(browser)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        controls, results = (browser.find_element(By.ID, each).rect for each in ("controls", "results"))
        beside = results["x"] >= controls["x"] + controls["width"]
        below = results["y"] >= controls["y"] + controls["height"]
        assert (beside, below) == (columns == 2, columns == 1)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.jpg", b"not an image", "cannot read “notes.jpg”"),
        ("empty.png", b"", "“empty.png” is empty"),
        ("huge.png", bytes_of_no_image()[2], "“huge.png” is too large: 50000 "),
        ("cut.jpg", bytes_of_no_image()[1][:300], "cannot read “cut.jpg”"),
    ],
)
def test_unreadable_files_are_named(image_site, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    image_site.find_element(By.ID, "file").send_keys(str(tmp_path / name))
    until(lambda: message in status(image_site), image_site)


def test_digit_can_be_drawn_and_cleared(digit_site):
    pad = digit_site.find_element(By.ID, "pad")
    ActionChains(digit_site, duration=5).drag_and_drop_by_offset(pad, 40, 80).perform()
    assert len(answers(digit_site)) == 5
    digit_site.find_element(By.ID, "clear").click()
    until(lambda: status(digit_site) == "Draw a digit.", digit_site)
    assert not digit_site.find_elements(By.CSS_SELECTOR, "#classes li")


def test_second_finger_does_not_draw(digit_site):
    box = digit_site.find_element(By.ID, "pad").rect

    def touch(kind, *points):
        places = [{"id": i, "x": box["x"] + x, "y": box["y"] + y} for i, (x, y) in points]
        digit_site.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    begin, middle, end, other, beside = (0, (50, 50)), (0, (50, 100)), (0, (50, 200)), (1, (200, 50)), (1, (200, 150))
    touch("touchStart", begin)
    touch("touchStart", begin, other)
    touch("touchMove", middle, beside)
    touch("touchMove", end, beside)
    touch("touchEnd")
    brightness = [
        digit_site.execute_script(BRIGHTNESS, x / box["width"], y / box["height"]) for _, (x, y) in (begin, end, beside)
    ]
    assert brightness == [255, 255, 0]


def test_digit_can_be_drawn_with_taps(digit_site):
    pad = digit_site.find_element(By.ID, "pad")
    digit_site.find_element(By.ID, "tap-mode").click()
    for x, y in ((0, -60), (0, 60)):
        ActionChains(digit_site, duration=5).move_to_element_with_offset(pad, x, y).click().perform()
    assert len(answers(digit_site)) == 5


def test_digit_can_be_drawn_with_the_keyboard(digit_site):
    digit_site.find_element(By.ID, "pad").send_keys(Keys.SPACE, *[Keys.ARROW_DOWN] * 10, Keys.SPACE)
    assert len(answers(digit_site)) == 5
