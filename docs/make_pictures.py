"""Makes the pictures of README.md and docs: `python -m docs.make_pictures`.

It runs `keras-crossvit quickstart` and docs/notebook.md in a folder, where the next call finds the results. It needs
the extra `dev`, and Chromium with chromedriver. The pictures of docs/performance.md are made by `benchmarks`.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import ConnectionPatch
from PIL import Image, ImageDraw, ImageFont
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

import keras_crossvit as kc
from keras_crossvit._internal.figures import new_figure, save_figure
from keras_crossvit._internal.user_text import shown_name
from keras_crossvit.demo import write_demo
from keras_crossvit.explaining.explanation import AGAINST, FOR
from keras_crossvit.pipeline import draw_contact_sheet, open_dataset, training_batches
from keras_crossvit.training import get_recipe
from tests.demo.page_helpers import answers, opened
from tests.helpers.browser import chromium, served

PICTURES = Path(__file__).resolve().with_name("pictures")
NOTEBOOK = Path(__file__).resolve().with_name("notebook.md")
WIDTH = 900  # pixels at most
COLORS = 256  # of a PNG: enough, and half the size
BRANCHES = (("small patches", "#b8500a"), ("large patches", "#1c5f9e"))  # colors as in the drawing of the architecture
LINES = "#5d6b7c"
PLOTS_OF_A_RUN = {
    "learning_curves.png": "learning_curves.png",
    "evaluation/confusion.png": "confusion_matrix.png",
    "evaluation/reliability.png": "reliability_diagram.png",
}
# Strokes of a 7 in a field of 280: where each starts, counted from the center, and its steps.
SEVEN = (((-65, -90), (130, 0), (-75, 190)), ((-60, 15), (100, 0)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes all pictures, or only that of README.md with a given model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default="build/pictures", help="default: %(default)s")
    parser.add_argument(
        "--overview", nargs=2, metavar=("MODEL", "PHOTO"), help="make only the picture of README.md, of these"
    )
    given = parser.parse_args(arguments)
    if given.overview:
        model, photo = given.overview
        draw_overview(PICTURES / "overview.png", model, photo)
    else:
        given.folder.mkdir(parents=True, exist_ok=True)
        make_all(given.folder.resolve())
    for path in PICTURES.glob("*.png"):
        if not path.name.startswith("cost_by_"):
            shrink(path)


def make_all(folder: Path) -> None:
    """Makes every picture, from runs in a folder that are trained unless they are there."""
    printed = run_quickstart(folder)
    subprocess.run([sys.executable, "-c", notebook_program()], cwd=folder, check=True)
    digits, photographs = folder / "runs" / "quickstart", folder / "runs" / "photographs"
    kc.draw_architecture(kc.crossvit_9_dagger(), PICTURES / "crossvit_9_dagger.svg")
    collage, classes = Image.open(folder / "collage.png"), ("flower", "temple")
    draw_overview(PICTURES / "overview.png", photographs, collage, classes=classes)
    narrow = collage.crop((25, 0, 375, 400))  # its four panels are shrunk less
    kc.explain(photographs, narrow, classes=classes).save(PICTURES / "explanation.png")
    draw_augmented(PICTURES / "contact_sheet.png", folder / "photographs")
    for plot, name in PLOTS_OF_A_RUN.items():
        shutil.copy(digits / plot, PICTURES / name)
    draw_terminal(PICTURES / "terminal.png", "keras-crossvit quickstart", printed)
    photograph_demo(PICTURES / "demo.png", digits, folder / "demo")
    photograph_report(PICTURES / "report.png", photographs)


def run_quickstart(folder: Path) -> str:
    """Runs the quickstart in a folder, unless it has; returns what it prints."""
    printed = folder / "quickstart.txt"
    if not printed.exists():
        command = [sys.executable, "-m", "keras_crossvit", "quickstart"]
        printed.write_text(subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return printed.read_text()


def notebook_program() -> str:
    """Returns the cells of the notebook, one after the other."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", NOTEBOOK.read_text(), flags=re.DOTALL | re.MULTILINE))


def draw_overview(path: Path, model: Any, photo: Any, **options: Any) -> None:
    """Draws an image, both inputs with their patches, what speaks for its class in each, and the likeliest classes.

    Args:
        path: PNG file to write.
        model: The name of a published model, for its ImageNet weights, what `kc.load_model` reads, or a model.
        photo: An image, as `kc.explain` takes it.
        **options: Arguments of `kc.explain`.
    """
    if model in kc.list_models():
        model = kc.create_model(model, weights="imagenet")
    elif not isinstance(model, kc.CrossViT):
        model = kc.load_model(model)
    why = kc.explain(model, photo, **options)
    figure, axes = new_figure(2, 4, (9, 4.2), width_ratios=(1.05, 1, 1, 0.75))
    layout = axes[0, 0].get_gridspec()
    for each in axes[:, (0, 3)].flat:  # the image and the classes take both rows
        each.remove()
    whole = _show(figure.add_subplot(layout[:, 0]), why.image, "image")
    classes = figure.add_subplot(layout[:, 3])
    image = Image.fromarray(why.image)
    top, left, height, width = why.box
    box = max(0, left), max(0, top), min(image.width, left + width), min(image.height, top + height)
    question = f"for {_short(why.class_name)}" + (f" rather than {_short(why.against)}" if why.against else "")
    grids = (why.small_patch, why.large_patch)
    for row, (name, color), size, grid in zip(axes, BRANCHES, model.config.image_sizes, grids, strict=True):
        seen = image.resize(size[::-1], Image.Resampling.BICUBIC, box)
        rows, columns = grid.shape
        inputs = _show(row[1], seen, f"{rows} x {columns} {name}", color)
        for y in np.linspace(0, size[0], rows + 1)[1:-1]:
            inputs.axhline(y - 0.5, color="white", linewidth=0.6)
        for x in np.linspace(0, size[1], columns + 1)[1:-1]:
            inputs.axvline(x - 0.5, color="white", linewidth=0.6)
        heat = _show(row[2], seen.convert("L"), question, color, cmap="gray", vmin=-60, vmax=320)
        largest = np.abs(grid).max() or 1
        extent = (-0.5, size[1] - 0.5, size[0] - 0.5, -0.5)
        heat.imshow(grid, cmap=_heat_colors(), vmin=-largest, vmax=largest, extent=extent)
        for start, end in ((whole, inputs), (inputs, heat)):
            ends = start.transAxes, end.transAxes
            figure.add_artist(ConnectionPatch((1.01, 0.5), (-0.02, 0.5), *ends, arrowstyle="-|>", color=LINES))
    (likeliest,) = kc.classify(model, photo, top=4)
    for i, (_, name, probability) in enumerate(likeliest):
        classes.barh(i, probability, height=0.16, color=LINES)
        classes.text(0, i - 0.13, f"{_short(name)}  {probability:.1%}", fontsize=11)
    middle = len(likeliest) / 2 - 0.6
    classes.set(xlim=(0, 1.05), ylim=(middle + 2.4, middle - 2.4))
    classes.set_axis_off()
    save_figure(figure, path, dpi=100)


def _show(axis: Any, image: Any, title: str, color: str = LINES, **options: Any) -> Any:
    axis.imshow(image, **options)
    axis.set_title(title, fontsize=11, color=color)
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(color=color, linewidth=1.5)
    return axis


def _short(name: str) -> str:
    return shown_name(name.replace("_", " "), 22)


def _heat_colors() -> LinearSegmentedColormap:
    against, speaks_for = (tuple(channel / 255 for channel in color) for color in (AGAINST, FOR))
    ends = (*against, 0.9), (*against, 0), (*speaks_for, 0), (*speaks_for, 0.9)
    return LinearSegmentedColormap.from_list("heat", ends)


def draw_augmented(path: Path, images: Path) -> None:
    """Draws training images as recipe finetune augments them, small enough for four in a row."""
    dataset = open_dataset(images)
    config = kc.variant_config("crossvit_9_dagger", num_classes=len(dataset.class_names), img_size=(96, 80))
    batches = training_batches(dataset, config, get_recipe("finetune").augmentation, 8, seed=0, epoch=0)
    draw_contact_sheet(path, batches, config, class_names=dataset.class_names)


def draw_terminal(path: Path, command: str, printed: str, *, columns: int = 104) -> None:
    """Draws a terminal with a command and what it has printed."""
    lines = [f"$ {command}"]
    for line in printed.splitlines():
        lines += textwrap.wrap(line, columns, drop_whitespace=False) or [""]
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono.ttf", 13)
    margin, height = 16, 18
    page = Image.new("RGB", (WIDTH, 2 * margin + height * len(lines)), "#161b22")
    draw = ImageDraw.Draw(page)
    for i, line in enumerate(lines):
        draw.text((margin, margin + i * height), line, "#e8edf3" if i else "#f5a15c", font)
    page.save(path)


def photograph_demo(path: Path, run: Path, page: Path) -> None:
    """Photographs the demo page of a model of digits, after drawing a 7."""
    if not page.exists():
        write_demo(run, page)
    with chromium() as browser, served(page) as url:
        _set_window(browser, 750)
        pad = opened(browser, url).find_element(By.ID, "pad")
        scale = pad.size["width"] / 280
        for start, *steps in SEVEN:
            pen = ActionChains(browser).move_to_element_with_offset(pad, *(round(scale * each) for each in start))
            pen.click_and_hold()
            for step in steps:
                pen.move_by_offset(*(round(scale * each) for each in step))
            pen.release().perform()
        answers(browser)
        browser.save_screenshot(str(path))


def photograph_report(path: Path, run: Path) -> None:
    """Photographs the top of a run's report."""
    with chromium() as browser, served(run) as url:
        _set_window(browser, 600)
        browser.get(f"{url}/report.html")
        browser.save_screenshot(str(path))


def _set_window(browser: Any, height: int) -> None:
    size = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})


def shrink(path: Path) -> None:
    """Makes a PNG at most `WIDTH` pixels wide, with a palette of `COLORS`."""
    with Image.open(path) as image:
        if image.mode == "P" and image.width <= WIDTH:
            return
        image = image.convert("RGB")
    image.thumbnail((WIDTH, 10 * WIDTH))
    image.quantize(COLORS, kmeans=3).save(path, optimize=True)


if __name__ == "__main__":
    main()
