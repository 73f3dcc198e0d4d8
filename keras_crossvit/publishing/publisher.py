"""Uploads a run's model to the Hugging Face Hub."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from keras_crossvit._internal.checks import require_known
from keras_crossvit._internal.errors import DownloadError, first_line
from keras_crossvit._internal.files import write_text
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit._internal.log import logger
from keras_crossvit._internal.model_paths import BEST_MODEL, HUB_FILE, read_run_settings
from keras_crossvit._internal.optional import require_library
from keras_crossvit.checkpoints.hub import hub_repository, without_warnings
from keras_crossvit.checkpoints.writing import save_checkpoint
from keras_crossvit.demo import write_demo
from keras_crossvit.exporting import export
from keras_crossvit.models.crossvit import CrossViT
from keras_crossvit.models.loading import load_model
from keras_crossvit.preprocessing.transforms import IMAGE
from keras_crossvit.runtimes.formats import FILE_FORMATS, FORMATS
from keras_crossvit.training.model_card import front_matter, model_card

_KERAS_FILES = ("config.json", "metadata.json", "model.weights.h5")  # of a .keras file, which is an archive
_FIGURES = ("learning_curves.png", "evaluation/confusion.png", "evaluation/reliability.png")  # without photographs


@known_keywords_only
def publish(
    run: str | PathLike,
    address: str,
    *,
    formats: Sequence[str] = ("litert",),
    demo: bool = False,
    license: str | None = None,  # noqa: A002
    private: bool = False,
) -> str:
    """Uploads a run's best model to the Hugging Face Hub, in one commit.

    The repository gets the model as `model.safetensors`, for `load_model`, and in the files that
    `keras.saving.load_model` reads; a file of one image for each of `formats`, each checked by `export`; the class
    names; the model card, and the run's plots. No image of the data is uploaded. huggingface_hub logs in: by
    `hf auth login` or the variable `HF_TOKEN`.

    Args:
        run: A run folder.
        address: Where to, "hf://USER/NAME". The repository is created if needed; its files of the same names are
            replaced.
        formats: Formats to export to: "litert", "openvino", "onnx". Defaults to LiteRT.
        demo: Whether to upload the browser page too, as the static Space "USER/NAME". Defaults to False.
        license: The license's identifier on the hub, such as "apache-2.0", for the card. Defaults to None: the card
            says that none is stated.
        private: Whether a repository that is created is private. Defaults to False.

    Returns:
        The web address of the repository.

    Raises:
        FileNotFoundError: `run` is not a run folder or has no model.
        ValueError: `address` or a format is not valid, or a file of the run is damaged.
        ConnectionError: the hub cannot be reached or refuses a request; a commit is atomic.
        ImportError: a library is not installed.
        RuntimeError: an exported file does not reproduce the model.
    """
    repository = hub_repository(address)
    for name in formats:
        require_known("format", name, FILE_FORMATS)
    read_run_settings(run)  # a mistake is found before the hub is asked
    hub: Any = require_library("huggingface_hub", "hub")
    api = hub.HfApi(library_name="keras_crossvit")
    _asked(api, "whoami")
    model = load_model(run)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        folder.mkdir()
        _write_repository(Path(run), model, folder, address, formats, license)
        page = Path(scratch) / "page"
        if demo:
            litert = folder / "model.tflite"
            write_demo(litert if litert.exists() else Path(run), page)
            write_text(page / "README.md", _space_card(model.name))
        url = _upload(api, repository, folder, "model", private)
        if demo:
            _upload(api, repository, page, "space", private)
    return url


def _write_repository(
    run: Path,
    model: CrossViT,
    folder: Path,
    address: str,
    formats: Sequence[str],
    license: str | None,  # noqa: A002
) -> None:
    save_checkpoint(model, folder / HUB_FILE)
    with zipfile.ZipFile(run / BEST_MODEL) as archive:
        for name in _KERAS_FILES:
            archive.extract(name, folder)
    write_text(folder / "class_names.txt", (run / "class_names.txt").read_text(encoding="utf-8"))
    exports = []
    for name in formats:
        path = folder / f"model{FORMATS[name].suffix}"
        logger.info("Exporting %s ...", path.name)
        result = export(model, path, inputs=IMAGE)
        check = f"relative error {result.relative_rms:.1e}, same class for {result.same_top1} of {result.num_images}"
        exports.append({"file": path.name, "check": f"{check} images ({result.images})"})
    for each in _FIGURES:
        if (run / each).is_file():
            shutil.copyfile(run / each, folder / Path(each).name)
    write_text(folder / "README.md", model_card(run, model, address=address, license=license, exports=exports))


def _space_card(name: str) -> str:
    facts = {"title": name, "sdk": "static", "app_file": "index.html", "tags": ["keras_crossvit"]}
    return front_matter(facts)


def _upload(api: Any, repository: str, folder: Path, kind: str, private: bool) -> str:
    space = {"space_sdk": "static"} if kind == "space" else {}
    created = _asked(api, "create_repo", repository, repo_type=kind, exist_ok=True, private=private, **space)
    logger.info("Uploading to %s ...", created)
    message = "Upload by keras_crossvit"
    _asked(api, "upload_folder", repo_id=repository, repo_type=kind, folder_path=str(folder), commit_message=message)
    return str(created)


def _asked(api: Any, method: str, *arguments: Any, **options: Any) -> Any:
    """Calls a method of the hub's client; its errors become one line."""
    errors = require_library("huggingface_hub.errors", "hub")
    try:
        with without_warnings():
            return getattr(api, method)(*arguments, **options)
    except errors.LocalTokenNotFoundError as error:
        raise DownloadError("You are not logged in to the hub. Run hf auth login, or set HF_TOKEN.") from error
    except (errors.HTTPError, OSError) as error:
        raise DownloadError(
            f"{api.endpoint} refuses {method} ({first_line(error)}); check the login (hf auth whoami) and try again."
        ) from error
