"""LiteRT.js, which runs LiteRT files in browsers: downloads its npm packages and checks them."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import os
import re
import tarfile
import urllib.request
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from keras_crossvit._internal.errors import DownloadError, InvalidValueError
from keras_crossvit._internal.files import atomic_write, cache_folder

VERSION = "2.5.3"
NPM_COMMAND = f"npm pack @litertjs/core@{VERSION} @litertjs/wasm-utils@{VERSION}"
_TIMEOUT = 60


# Base64 of the SHA-512 that npm declares for the archive of each package.
PACKAGES = {
    "core": "PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==",
    "wasm-utils": "4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==",
}
# WebAssembly without threads, which need HTTP headers that a plain static server does not send. "compat" is for
# browsers without relaxed SIMD.
_NEEDED = re.compile(r"package/(package\.json|dist/index\.js|wasm/litert_wasm_(compat_)?internal\.(js|wasm))")


def archive_name(package: str) -> str:
    """Returns the file name that `npm pack` gives the archive of a package."""
    return f"litertjs-{package}-{VERSION}.tgz"


def read_litertjs(folder: str | PathLike | None = None) -> dict[str, bytes]:
    """Returns the checked archives of `PACKAGES` from a folder or, by default, from the cache.

    What the cache lacks is downloaded from the npm registry, or from `NPM_CONFIG_REGISTRY`.
    """
    return {package: _read(package, folder) for package in PACKAGES}


def unpack_litertjs(archives: Mapping[str, bytes], target: Path) -> None:
    """Writes the files that the page needs into a folder of the package's name in `target`."""
    for package, content in archives.items():
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive:
                if member.isfile() and _NEEDED.fullmatch(member.name):
                    file = target / package / member.name.removeprefix("package/")
                    file.parent.mkdir(parents=True, exist_ok=True)
                    with archive.extractfile(member) as stored:  # type: ignore[union-attr]  # None only of a folder
                        file.write_bytes(stored.read())


def _read(package: str, folder: str | PathLike | None) -> bytes:
    path = Path(folder or cache_folder()) / archive_name(package)
    if path.is_file() and _is_intact(content := path.read_bytes(), package):
        return content
    if folder:
        raise InvalidValueError(f"'{path}' is missing or damaged; run in this folder: {NPM_COMMAND}")
    content = _download(package)
    with atomic_write(path) as unfinished:
        unfinished.write_bytes(content)
    return content


def _download(package: str) -> bytes:
    registry = os.environ.get("NPM_CONFIG_REGISTRY") or "https://registry.npmjs.org"
    url = f"{registry.rstrip('/')}/@litertjs/{package}/-/{package}-{VERSION}.tgz"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            content = answer.read()
        if not _is_intact(content, package):
            raise ValueError("its contents differ from the package on npm")
    except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: also if the registry is not a URL
        raise DownloadError(
            f"LiteRT.js cannot be downloaded from {url} ({error}). On a machine with a network run '{NPM_COMMAND}', "
            "and pass the folder of both files with --litertjs."
        ) from error
    return content


def _is_intact(content: bytes, package: str) -> bool:
    return base64.b64encode(hashlib.sha512(content).digest()).decode() == PACKAGES[package]
