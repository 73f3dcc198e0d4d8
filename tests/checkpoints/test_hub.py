import sys
import time

import huggingface_hub.constants
import huggingface_hub.file_download
import numpy as np
import pytest
from safetensors.numpy import save

from keras_crossvit import crossvit_9
from keras_crossvit.checkpoints.hub import fetch_imagenet_weights
from tests.helpers import reference
from tests.helpers.hub import Hub, served
from tests.helpers.processes import run_python

NAME = "crossvit_9_240"
FILE = f"timm/{NAME}.in1k/model.safetensors"
NOBODY = "http://127.0.0.1:9"  # nobody listens on the "discard" port
CONTENT = np.random.RandomState(0).bytes(300_000)


def use_endpoint(url, monkeypatch):
    """Does what HF_ENDPOINT does before huggingface_hub is imported."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A local hub that the real client uses, with an empty cache."""
    with served(Hub({FILE: CONTENT})) as served_hub:
        use_endpoint(served_hub.url, monkeypatch)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the client waits between attempts
        yield served_hub


def assert_one_line_with_remedy(raised):
    assert "\n" not in str(raised.value)
    assert 'weights="path/to/model.safetensors"' in str(raised.value)


def test_file_is_downloaded_once_and_then_cached(hub):
    path = fetch_imagenet_weights(NAME)
    assert path.read_bytes() == CONTENT
    assert fetch_imagenet_weights(NAME) == path
    assert hub.transfers(FILE) == [None]


def test_broken_download_is_resumed(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 50_000)  # the client keeps whole chunks
    hub.broken_transfers, hub.break_after = 1, 120_000
    assert fetch_imagenet_weights(NAME).read_bytes() == CONTENT
    assert hub.transfers(FILE) == [None, "bytes=100000-"]


def test_truncated_download_is_refused_and_not_kept(hub, tmp_path):
    hub.short_by = 1
    with pytest.raises(OSError, match=FILE) as raised:
        fetch_imagenet_weights(NAME)
    assert_one_line_with_remedy(raised)
    assert not list(tmp_path.rglob("model.safetensors"))
    hub.short_by = 0
    assert fetch_imagenet_weights(NAME).read_bytes() == CONTENT


def test_wrong_hash_is_refused_and_not_kept(hub):
    hub.declared_hash = "ab" * 32
    with pytest.raises(OSError, match=hub.declared_hash) as raised:
        fetch_imagenet_weights(NAME)
    assert_one_line_with_remedy(raised)
    hub.declared_hash = None
    assert fetch_imagenet_weights(NAME).read_bytes() == CONTENT


def test_wrong_hash_is_refused_in_a_cache_without_links(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.file_download, "are_symlinks_supported", lambda cache_dir=None: False)
    assert not fetch_imagenet_weights(NAME).is_symlink()
    hub.declared_hash = "ab" * 32
    with pytest.raises(OSError, match=hub.declared_hash):
        fetch_imagenet_weights(NAME)


def test_damaged_file_in_the_cache_is_refused_and_downloaded_again(hub):
    path = fetch_imagenet_weights(NAME)
    path.resolve().write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(OSError, match=FILE):
        fetch_imagenet_weights(NAME)
    assert fetch_imagenet_weights(NAME).read_bytes() == CONTENT


def test_file_without_a_declared_sha256_is_refused(hub):
    hub.declared_hash = "ab" * 20
    with pytest.raises(OSError, match="SHA-256") as raised:
        fetch_imagenet_weights(NAME)
    assert_one_line_with_remedy(raised)


@pytest.mark.parametrize("status", [404, 401])  # the hub answers 401 if it does not tell whether the model exists
def test_unknown_model_is_a_missing_file(hub, status):
    hub.files, hub.status_of_unknown = {}, status
    with pytest.raises(FileNotFoundError, match=FILE) as raised:
        fetch_imagenet_weights(NAME)
    assert_one_line_with_remedy(raised)


def test_no_network_is_one_error_without_warnings(hub, monkeypatch, capfd):
    use_endpoint(NOBODY, monkeypatch)
    with pytest.raises(ConnectionError, match=NOBODY) as raised:
        fetch_imagenet_weights(NAME)
    assert_one_line_with_remedy(raised)
    assert capfd.readouterr().err == ""


FETCHED_WITHOUT_SLEEP = """
import time
time.sleep = lambda seconds: None
from keras_crossvit.checkpoints.hub import fetch_imagenet_weights
fetch_imagenet_weights("crossvit_9_240")
"""


def test_no_network_is_one_error_where_the_library_is_imported_by_it(tmp_path):
    environment = {"HF_ENDPOINT": NOBODY, "HF_HOME": str(tmp_path)}
    done = run_python("-c", FETCHED_WITHOUT_SLEEP, check=False, **environment)
    assert "Retry" not in done.stderr
    assert f"DownloadError: {NOBODY} cannot be reached" in done.stderr.splitlines()[-1]


def test_cached_file_needs_no_network(hub, monkeypatch):
    path = fetch_imagenet_weights(NAME)
    use_endpoint(NOBODY, monkeypatch)
    assert fetch_imagenet_weights(NAME) == path


def test_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match="pip install"):
        fetch_imagenet_weights(NAME)


def test_build_crossvit_has_no_imagenet_weights():
    from keras_crossvit import build_crossvit, variant_config

    with pytest.raises(ValueError, match="imagenet"):
        build_crossvit(variant_config("crossvit_9"), weights="imagenet")


@pytest.mark.parametrize(
    ("arguments", "mismatch"),
    [
        ({"num_classes": 5}, "1000 classes, the model's 5"),
        ({"img_size": (480, 448)}, "small_patch 20x20 to 40x40"),
        ({"num_classes": 5, "in_channels": 1}, "1000 classes.*3 channels, the model's 1"),
    ],
)
def test_what_does_not_fit_is_known_before_the_download(hub, arguments, mismatch):
    with pytest.raises(ValueError, match=rf"'imagenet' of crossvit_9 .*{mismatch}.*adapt=True"):
        crossvit_9(weights="imagenet", adapt=False, **arguments)
    assert not hub.requests


LOAD = """
import sys, keras, numpy as np, keras_crossvit as kc
model = kc.crossvit_9(weights="imagenet")
print(float(np.abs(kc.state_dict(model)["head.0.weight"]).sum()))
small = kc.crossvit_9(num_classes=10, weights="imagenet")
try:
    kc.crossvit_tiny(weights="imagenet")
except OSError as error:
    print(type(error).__name__, error)
"""


def test_model_functions_load_the_official_weights_and_later_offline(tmp_path):
    weights = reference.draw_weights(NAME)
    total = float(np.abs(weights["head.0.weight"]).sum())
    with served(Hub({FILE: save(weights)})) as hub:
        environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}
        online = run_python("-c", LOAD, **environment, TQDM_POSITION="-1")  # a progress bar without a terminal
        assert hub.transfers(FILE) == [None]
        requests = len(hub.requests)
        offline = run_python("-c", LOAD, **environment, HF_HUB_OFFLINE="1")
        assert len(hub.requests) == requests
    for done in (online, offline):
        assert float(done.stdout.splitlines()[0]) == total
    assert "model.safetensors: 100%" in online.stderr
    assert "MissingFileError" in online.stdout.splitlines()[-1]
    assert "HF_HUB_OFFLINE" in offline.stdout.splitlines()[-1]
