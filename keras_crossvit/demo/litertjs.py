"""LiteRT.js, which runs LiteRT files in browsers: downloads its npm packages and checks them."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import os
import tarfile
import urllib.request
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from keras_crossvit._internal.errors import DownloadError, InvalidValueError
from keras_crossvit._internal.files import atomic_write, cache_folder

VERSION = "2.5.3"
NPM_COMMAND = f"npm pack @litertjs/core@{VERSION} @litertjs/wasm-utils@{VERSION}"
_TIMEOUT = 60


class Package(NamedTuple):
    """An npm package of LiteRT.js: base64 of its archive's SHA-512 as npm declares it, and the files of the page."""

    name: str
    integrity: str
    files: tuple[str, ...]

    @property
    def archive(self) -> str:
        """File name that `npm pack` gives the archive."""
        return f"litertjs-{self.name}-{VERSION}.tgz"


# WebAssembly without threads, which need HTTP headers that a plain static server does not send. "compat" is for
# browsers without relaxed SIMD.
_WASM = tuple(f"wasm/litert_wasm_{kind}internal.{suffix}" for kind in ("", "compat_") for suffix in ("js", "wasm"))
PACKAGES = (
    Package(
        "core",
        "PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==",
        ("package.json", "dist/index.js", *_WASM),
    ),
    Package(
        "wasm-utils",
        "4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==",
        ("package.json", "dist/index.js"),
    ),
)


def read_litertjs(folder: str | PathLike | None = None) -> list[bytes]:
    """Returns the checked archives of `PACKAGES` from a folder or, by default, from the cache.

    What the cache lacks is downloaded from the npm registry, or from `NPM_CONFIG_REGISTRY`.
    """
    return [_read(package, folder) for package in PACKAGES]


def unpack_litertjs(archives: list[bytes], target: Path) -> None:
    """Writes the needed files of each package into a folder of the package's name in `target`."""
    for package, content in zip(PACKAGES, archives, strict=True):
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for name in package.files:
                member = archive.getmember(f"package/{name}").replace(name=name)
                archive.extract(member, target / package.name, filter="data")


def _read(package: Package, folder: str | PathLike | None) -> bytes:
    path = Path(folder or cache_folder()) / package.archive
    if path.is_file() and _is_intact(content := path.read_bytes(), package):
        return content
    if folder:
        raise InvalidValueError(f"'{path}' is missing or damaged; run in this folder: {NPM_COMMAND}")
    content = _download(package)
    with atomic_write(path) as unfinished:
        unfinished.write_bytes(content)
    return content


def _download(package: Package) -> bytes:
    registry = os.environ.get("NPM_CONFIG_REGISTRY") or "https://registry.npmjs.org"
    url = f"{registry.rstrip('/')}/@litertjs/{package.name}/-/{package.name}-{VERSION}.tgz"
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


def _is_intact(content: bytes, package: Package) -> bool:
    return base64.b64encode(hashlib.sha512(content).digest()).decode() == package.integrity
