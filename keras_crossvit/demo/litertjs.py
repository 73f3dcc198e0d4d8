"""LiteRT.js, by which browsers run LiteRT files: fetched from npm's registry, the same bytes every time."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import http.client
import os
import shutil
import tarfile
import urllib.request
from os import PathLike
from pathlib import Path

from keras_crossvit._internal.errors import DownloadError, InvalidValueError, MissingFileError
from keras_crossvit._internal.files import atomic_write, cache_folder

VERSION = "2.5.3"
_REGISTRY = "https://registry.npmjs.org"
_SECONDS = 60  # without a byte, until the registry counts as out of reach


@dataclasses.dataclass(frozen=True)
class Package:
    """One npm package of LiteRT.js.

    Args:
        name: Its name within `@litertjs`.
        integrity: SHA-512 of its tarball in base64, as npm's registry declares it.
        files: What a page needs of it.
    """

    name: str
    integrity: str
    files: tuple[str, ...]

    @property
    def file_name(self) -> str:
        """Name of the tarball, as `npm pack` gives it."""
        return f"litertjs-{self.name}-{VERSION}.tgz"

    @property
    def specifier(self) -> str:
        """What `npm pack` takes."""
        return f"@litertjs/{self.name}@{VERSION}"


# The two variants without threads: those with threads run only where the server isolates its pages by special headers,
# which a plain static server does not send. The compatible one is for browsers without relaxed SIMD.
_VARIANTS = ("litert_wasm_internal", "litert_wasm_compat_internal")
PACKAGES = (
    Package(
        "core",
        "PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==",
        (
            "package.json",
            "dist/index.js",
            *(f"wasm/{variant}.{suffix}" for variant in _VARIANTS for suffix in ("js", "wasm")),
        ),
    ),
    Package(
        "wasm-utils",
        "4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==",
        ("package.json", "dist/index.js"),
    ),
)


def find_litertjs(folder: str | PathLike | None = None) -> list[Path]:
    """The tarballs of `PACKAGES`, from a folder or else from the cache, after a download if need be.

    The cache is `files.cache_folder`; the registry is npm's own, or that which `NPM_CONFIG_REGISTRY` names.

    Args:
        folder: A folder in which `npm pack` has left them. Defaults to None: the cache.

    Returns:
        Their paths; every one has the SHA-512 of its package.

    Raises:
        FileNotFoundError: the folder lacks one.
        ValueError: one in the folder holds other bytes than the package.
        ConnectionError: the registry cannot be reached, or sends other bytes.
        OSError: the cache cannot be written.
    """
    if folder is not None:
        return [_in_folder(Path(folder), package) for package in PACKAGES]
    return [_in_cache(cache_folder(), package) for package in PACKAGES]


def unpack_litertjs(tarballs: list[Path], target: Path) -> None:
    """Writes the files of `PACKAGES` to a folder each in `target`.

    Args:
        tarballs: What `find_litertjs` returns.
        target: The folder, which is made.
    """
    for package, tarball in zip(PACKAGES, tarballs, strict=True):
        with tarfile.open(tarball) as archive:
            for name in package.files:
                file = target / package.name / name
                file.parent.mkdir(parents=True, exist_ok=True)
                with archive.extractfile(f"package/{name}") as source, file.open("wb") as copy:
                    shutil.copyfileobj(source, copy)


def _in_folder(folder: Path, package: Package) -> Path:
    path = folder / package.file_name
    if not path.is_file():
        raise MissingFileError(f"There is no '{path}'; run in that folder: npm pack {package.specifier}")
    if _integrity(path.read_bytes()) != package.integrity:
        raise InvalidValueError(
            f"'{path}' is not what npm's registry has; run in its folder: npm pack {package.specifier}"
        )
    return path


def _in_cache(cache: Path, package: Package) -> Path:
    path = cache / package.file_name
    if path.is_file() and _integrity(path.read_bytes()) == package.integrity:
        return path
    content = _fetch(package)
    with atomic_write(path) as unfinished:
        unfinished.write_bytes(content)
    return path


def _fetch(package: Package) -> bytes:
    registry = os.environ.get("NPM_CONFIG_REGISTRY") or _REGISTRY
    url = f"{registry.rstrip('/')}/@litertjs/{package.name}/-/{package.name}-{VERSION}.tgz"
    by_hand = " ".join(each.specifier for each in PACKAGES)
    remedy = f"where it can, run 'npm pack {by_hand}', and give the folder of both files by --litertjs."
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
            content = answer.read()
    except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: the registry is no URL
        raise DownloadError(f"LiteRT.js cannot be fetched from {url} ({error}); {remedy}") from error
    if _integrity(content) != package.integrity:
        raise DownloadError(f"LiteRT.js cannot be fetched from {url} (other bytes came); {remedy}")
    return content


def _integrity(content: bytes) -> str:
    return base64.b64encode(hashlib.sha512(content).digest()).decode()
