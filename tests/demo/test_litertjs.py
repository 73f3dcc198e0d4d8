"""Downloading LiteRT.js, and errors when that fails."""

import socket

import pytest

from keras_crossvit._internal.errors import DownloadError
from keras_crossvit.demo import litertjs
from keras_crossvit.demo.litertjs import NPM_COMMAND, archive_name, read_litertjs, unpack_litertjs
from tests.demo.packages import small_packages
from tests.helpers.browser import served
from tests.helpers.processes import PROJECT


@pytest.fixture
def folder(monkeypatch, tmp_path):
    folder = tmp_path / "npm"
    folder.mkdir()
    small_packages(monkeypatch, folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def registry(monkeypatch, folder, tmp_path):
    """Files of a registry that has the packages."""
    files = []
    for package in litertjs.PACKAGES:
        path = tmp_path / "registry" / "@litertjs" / package / "-" / f"{package}-{litertjs.VERSION}.tgz"
        path.parent.mkdir(parents=True)
        files.append((folder / archive_name(package)).rename(path))
    with served(tmp_path / "registry") as url:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"{url}/")
        yield files


def cached(tmp_path):
    return sorted(file for file in (tmp_path / "cache").rglob("*") if file.is_file())


def test_packages_are_downloaded_once(registry, tmp_path):
    archives = read_litertjs()
    assert [file.name for file in cached(tmp_path)] == [archive_name(package) for package in litertjs.PACKAGES]
    for file in registry:
        file.unlink()
    assert read_litertjs() == archives
    unpack_litertjs(archives, tmp_path / "page")
    assert "core" in (tmp_path / "page" / "core" / "dist" / "index.js").read_text()


def test_damaged_package_in_the_cache_is_downloaded_again(registry, tmp_path):
    archives = read_litertjs()
    cached(tmp_path)[0].write_bytes(archives["core"][:20])
    assert read_litertjs() == archives
    assert cached(tmp_path)[0].read_bytes() == archives["core"]


@pytest.mark.parametrize("content", [b"something else", None])
def test_other_contents_of_the_registry_are_refused_and_not_cached(content, registry, tmp_path):
    registry[0].unlink()
    if content is not None:
        registry[0].write_bytes(content)
    with pytest.raises(DownloadError, match=f"core-{litertjs.VERSION}.tgz .*{NPM_COMMAND}.*--litertjs"):
        read_litertjs()
    assert cached(tmp_path) == []


@pytest.mark.parametrize("registry", ["not a URL", "http://127.0.0.1:{port}"])
def test_error_without_a_network_says_what_to_do(registry, folder, tmp_path, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", registry.format(port=unused.getsockname()[1]))
        with pytest.raises(DownloadError, match=f"{NPM_COMMAND}.*--litertjs"):
            read_litertjs()
    assert cached(tmp_path) == []


@pytest.mark.parametrize("content", [b"not an archive", None])
def test_folder_has_to_hold_the_packages(content, folder):
    assert len(read_litertjs(folder)) == 2
    path = folder / archive_name("wasm-utils")
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path.name}.*{NPM_COMMAND}"):
        read_litertjs(folder)


def test_document_has_the_npm_command():
    assert f"\n{NPM_COMMAND}\n" in (PROJECT / "docs" / "demo.md").read_text()
