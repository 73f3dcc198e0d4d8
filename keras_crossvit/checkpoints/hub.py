"""Downloads models from the Hugging Face Hub: the official weights, and what `publish` has uploaded."""

from __future__ import annotations

import contextlib
import hashlib
import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_crossvit._internal.errors import DownloadError, InvalidValueError, MissingFileError, first_line
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit._internal.model_paths import HUB_FILE
from keras_crossvit._internal.optional import require_library

HUB_PREFIX = "hf://"
_NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_REMEDY = 'Download the file by other means and pass its path: weights="path/to/model.safetensors".'
_MODEL_REMEDY = 'Download the file by other means and pass its path: load_model("path/to/model.safetensors").'


def hub_repository(address: str) -> str:
    """Returns "USER/NAME" of an address "hf://USER/NAME".

    Raises:
        InvalidValueError: it is not such an address.
    """
    repository = address.removeprefix(HUB_PREFIX)
    if repository == address or not re.fullmatch(f"{_NAME}/{_NAME}", repository):
        raise InvalidValueError(f"'{address}' is not an address on the Hugging Face Hub; write {HUB_PREFIX}USER/NAME.")
    return repository


def fetch_model(address: str) -> Path:
    """Returns the path of a published model's file in the hub's cache, and downloads it if needed.

    Args:
        address: Such as "hf://USER/NAME".

    Raises:
        Those of `fetch_imagenet_weights`, and InvalidValueError for another address.
    """
    return _fetch(hub_repository(address), _MODEL_REMEDY)


@known_keywords_only
def fetch_imagenet_weights(timm_name: str) -> Path:
    """Returns the path of a published model's ImageNet-1k weights in the hub's cache, and downloads them if needed.

    huggingface_hub shows progress, resumes broken downloads and reads the variables `HF_HOME` (the cache),
    `HF_ENDPOINT` and `HF_HUB_OFFLINE`.

    Args:
        timm_name: Name of the model in timm, such as "crossvit_9_dagger_240".

    Returns:
        Path of a file whose SHA-256 is the one that the hub declares.

    Raises:
        ImportError: huggingface_hub is not installed.
        FileNotFoundError: the hub has no such model, or in offline mode the cache does not have it.
        ConnectionError: the hub cannot be reached, the download broke off, or the file differs from the one that the
            hub declares, and was deleted.
    """
    return _fetch(f"timm/{timm_name}.in1k", _REMEDY)


def _fetch(repository: str, remedy: str) -> Path:
    for module in ("constants", "errors"):
        require_library(f"huggingface_hub.{module}", "hub", otherwise="give the path of a file")
    hub: Any = require_library("huggingface_hub", "hub")
    try:
        with without_warnings():
            path = Path(hub.hf_hub_download(repository, HUB_FILE, library_name="keras_crossvit"))
            declared = _declared_hash(hub, repository, path)
    except (OSError, hub.errors.HTTPError) as error:  # HTTPError is the base class of its HTTP client's errors
        raise _explained(hub, f"{repository}/{HUB_FILE}", error, remedy) from error
    if declared is not None:
        _check_hash(path, declared, f"{repository}/{HUB_FILE}", remedy)
    return path


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Silences huggingface_hub's warning of each of its attempts."""
    hub_logging: Any = require_library("huggingface_hub.utils.logging", "hub")  # sets its level when it is imported
    level = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()
    try:
        yield
    finally:
        hub_logging.set_verbosity(level)


def _declared_hash(hub: Any, repository: str, path: Path) -> str | None:
    """Returns the SHA-256 that the hub declares as entity tag, or None offline if the cache does not have it.

    Where the cache has links, they point to files that are named by the entity tag.
    """
    if path.is_symlink():
        return path.readlink().name
    if hub.constants.HF_HUB_OFFLINE:
        return None
    return hub.get_hf_file_metadata(hub.hf_hub_url(repository, HUB_FILE)).etag


def _check_hash(path: Path, declared: str, label: str, remedy: str) -> None:
    if len(declared) != 64 or set(declared) - set(string.hexdigits):
        raise DownloadError(f"The hub declares no SHA-256 for {label} (but '{declared}'). {remedy}")
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != declared:
        path.resolve().unlink()  # otherwise the cache would return it again
        path.unlink(missing_ok=True)
        raise DownloadError(
            f"{label} has SHA-256 {actual}, but the hub declares {declared}; the file was deleted. Try again. {remedy}"
        )


def _explained(hub: Any, label: str, error: Exception, remedy: str) -> OSError:
    """Returns our error for one of huggingface_hub, whose messages have several lines."""
    cause = error.__cause__ if isinstance(error.__cause__, (OSError, hub.errors.HTTPError)) else error
    endpoint = hub.constants.ENDPOINT
    if hub.constants.HF_HUB_OFFLINE:
        return MissingFileError(f"{label} is not in the cache, and HF_HUB_OFFLINE forbids to download it. {remedy}")
    if isinstance(error, (hub.errors.RepositoryNotFoundError, hub.errors.RemoteEntryNotFoundError)):
        return MissingFileError(f"{endpoint} does not have {label}. {remedy}")
    if isinstance(error, hub.errors.LocalEntryNotFoundError):
        return DownloadError(f"{endpoint} cannot be reached for {label} ({first_line(cause)}). {remedy}")
    return DownloadError(f"The download of {label} is incomplete ({first_line(cause)}); try again. {remedy}")
