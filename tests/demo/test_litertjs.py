"""Where LiteRT.js comes from, and what is said when it does not come."""

import socket

import pytest

from keras_crossvit.demo import litertjs
from keras_crossvit.demo.litertjs import find_litertjs, unpack_litertjs
from tests.demo.packages import small_packages
from tests.helpers.browser import served


@pytest.fixture
def folder(monkeypatch, tmp_path):
    folder = tmp_path / "npm"
    folder.mkdir()
    small_packages(monkeypatch, folder)
    return folder


@pytest.fixture
def registry(monkeypatch, folder, tmp_path):
    """A registry that has the packages, and an empty cache; returns the registry's files."""
    files = []
    for package in litertjs.PACKAGES:
        files.append(
            tmp_path / "registry" / "@litertjs" / package.name / "-" / f"{package.name}-{litertjs.VERSION}.tgz"
        )
        files[-1].parent.mkdir(parents=True)
        (folder / package.file_name).rename(files[-1])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with served(tmp_path / "registry") as url:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"{url}/")
        yield files


def cached(tmp_path):
    return sorted(file.name for file in (tmp_path / "cache").rglob("*") if file.is_file())


def test_packages_are_fetched_once_and_then_taken_from_the_cache(registry, tmp_path):
    tarballs = find_litertjs()
    assert cached(tmp_path) == sorted(package.file_name for package in litertjs.PACKAGES)
    for file in registry:
        file.unlink()
    assert find_litertjs() == tarballs
    unpack_litertjs(tarballs, tmp_path / "page")
    assert "core" in (tmp_path / "page" / "core" / "dist" / "index.js").read_text()


def test_damaged_package_in_the_cache_is_fetched_again(registry):
    first, _ = find_litertjs()
    whole = first.read_bytes()
    first.write_bytes(whole[:20])
    find_litertjs()
    assert first.read_bytes() == whole


def test_other_bytes_of_a_registry_are_refused_and_not_kept(registry, tmp_path):
    registry[0].write_bytes(b"something else")
    with pytest.raises(ConnectionError, match=r"other bytes came.*run 'npm pack @litertjs/core@.*by --litertjs"):
        find_litertjs()
    assert cached(tmp_path) == []


def test_package_that_the_registry_has_not_is_named(registry):
    registry[1].unlink()
    with pytest.raises(ConnectionError, match=r"wasm-utils-.*\.tgz \(HTTP Error 404"):
        find_litertjs()


@pytest.mark.parametrize("registry", ["no address", "http://127.0.0.1:{port}"])
def test_without_a_network_the_way_around_it_is_said(registry, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", registry.format(port=unused.getsockname()[1]))
        with pytest.raises(
            ConnectionError, match=r"cannot be fetched from .*; where it can, run 'npm pack .*--litertjs"
        ):
            find_litertjs()
    assert cached(tmp_path) == []


def test_folder_of_npm_pack_is_taken_as_it_is(folder):
    assert [file.parent for file in find_litertjs(folder)] == [folder] * 2


def test_folder_without_a_package_is_told_how_to_get_it(folder):
    (folder / litertjs.PACKAGES[1].file_name).unlink()
    with pytest.raises(FileNotFoundError, match=r"run in that folder: npm pack @litertjs/wasm-utils@"):
        find_litertjs(folder)


def test_wrong_archive_in_a_folder_is_refused(folder):
    (folder / litertjs.PACKAGES[0].file_name).write_bytes(b"no archive")
    with pytest.raises(
        ValueError, match=r"is not what npm's registry has; run in its folder: npm pack @litertjs/core@"
    ):
        find_litertjs(folder)
