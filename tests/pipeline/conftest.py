import pytest

from tests.helpers import image_folders


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return image_folders.write_plain(tmp_path_factory.mktemp("plain"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
