import numpy as np
import pytest

from keras_crossvit.runtimes.file_digest import BLANK_DIGEST, require_undamaged, write_digest

CONTENT = b"graph and " + BLANK_DIGEST.encode() + b" and weights"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(CONTENT)
    write_digest(path)
    return path


def test_every_change_of_a_byte_is_found(file):
    content = file.read_bytes()
    require_undamaged(file)
    assert len(content) == len(CONTENT)
    mark = range(content.index(b"keras_crossvit_sha256="), content.index(b"=") + 1)
    for position in set(range(len(content))) - set(mark):
        changed = bytearray(content)
        changed[position] ^= 1 << np.random.default_rng(position).integers(8)
        file.write_bytes(changed)
        with pytest.raises(ValueError, match=r"model\.onnx'"):
            require_undamaged(file)
    for changed in (content[:-1], content[: mark.stop], content[: mark.stop + 30], content + b"\0"):
        file.write_bytes(changed)
        with pytest.raises(ValueError, match=r"model\.onnx'"):
            require_undamaged(file)


@pytest.mark.parametrize("content", [b"", b"graph and weights"])
def test_a_file_without_digest_is_taken_as_it_is(file, content):
    file.write_bytes(content)
    require_undamaged(file)
