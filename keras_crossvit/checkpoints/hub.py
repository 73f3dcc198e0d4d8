"""The official weights, fetched from the Hugging Face Hub by its own library."""

from __future__ import annotations

import hashlib
import logging
import string
from pathlib import Path
from typing import Any

from keras_crossvit._internal.errors import FileError, first_line
from keras_crossvit._internal.model_paths import HUB_FILE
from keras_crossvit._internal.optional import require_library

_REMEDY = 'Fetch the file by other means and give its path: weights="path/to/model.safetensors".'


def fetch_imagenet_weights(timm_name: str) -> Path:
    """Path of a published model's ImageNet-1k weights in the hub's cache, after a download if need be.

    Progress bar, resumption of a broken transfer, place of the cache (`HF_HOME`), other endpoints (`HF_ENDPOINT`) and
    offline mode (`HF_HUB_OFFLINE`) are those of huggingface_hub.

    Args:
        timm_name: Name of the model in timm, such as "crossvit_9_dagger_240".

    Returns:
        Path of a file whose SHA-256 is the one that the hub declares.

    Raises:
        ImportError: huggingface_hub is not installed.
        FileNotFoundError: the hub has no such model, or it is not in the cache in offline mode.
        ConnectionError: the hub cannot be reached.
        OSError: the transfer broke off, or the file is not the one that the hub declares; it is deleted.
    """
    hub = _require_hub()
    repository = f"timm/{timm_name}.in1k"
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of each of its attempts
    try:
        path = Path(hub.hf_hub_download(repository, HUB_FILE, library_name="keras_crossvit"))
        declared = _declared_hash(hub, repository, path)
    except (OSError, hub.errors.HTTPError) as error:  # the latter is the base of all that its HTTP client raises
        raise _in_one_line(hub, repository, error) from error
    finally:
        logger.setLevel(level)
    _check_hash(path, declared, repository)
    return path


def _require_hub() -> Any:
    for module in ("constants", "errors"):
        require_library(f"huggingface_hub.{module}", "hub", otherwise="give the path of a file")
    return require_library("huggingface_hub", "hub")


def _declared_hash(hub: Any, repository: str, path: Path) -> str | None:
    """SHA-256 that the hub declares, or None offline where the cache has no links (it was checked when fetched).

    The hub declares it as the entity tag, by which the cache names the file that the path links to.
    """
    if path.is_symlink():
        return path.readlink().name
    if hub.constants.HF_HUB_OFFLINE:
        return None
    return hub.get_hf_file_metadata(hub.hf_hub_url(repository, HUB_FILE)).etag


def _check_hash(path: Path, declared: str | None, repository: str) -> None:
    if declared is None:
        return
    if len(declared) != 64 or set(declared) - set(string.hexdigits):
        raise FileError(f"The hub declares no SHA-256 for {repository}/{HUB_FILE} (but '{declared}'). {_REMEDY}")
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual == declared:
        return
    path.resolve().unlink()  # else the cache would offer it again
    path.unlink(missing_ok=True)
    raise FileError(
        f"{repository}/{HUB_FILE} has SHA-256 {actual}, where the hub declares {declared}; the file has been deleted. "
        f"Try again. {_REMEDY}"
    )


def _in_one_line(hub: Any, repository: str, error: Exception) -> OSError:
    """Our error for one of the hub's library, whose messages run over several lines."""
    what = f"{repository}/{HUB_FILE}"
    cause = error.__cause__ if isinstance(error.__cause__, (OSError, hub.errors.HTTPError)) else error
    if hub.constants.HF_HUB_OFFLINE:
        return FileNotFoundError(f"{what} is not in the cache, and HF_HUB_OFFLINE forbids to fetch it. {_REMEDY}")
    if isinstance(error, (hub.errors.RepositoryNotFoundError, hub.errors.RemoteEntryNotFoundError)):
        return FileNotFoundError(f"{hub.constants.ENDPOINT} has no {what}. {_REMEDY}")
    if isinstance(error, hub.errors.LocalEntryNotFoundError):
        return ConnectionError(
            f"{hub.constants.ENDPOINT} cannot be reached for {what} ({first_line(cause)}). {_REMEDY}"
        )
    return OSError(f"{what} did not arrive whole ({first_line(cause)}); try again. {_REMEDY}")
