"""A small file that is vast when it is unpacked is refused before it is unpacked."""

import zipfile

import pytest

from keras_crossvit import load_model
from keras_crossvit.checkpoints.torch_files import read_torch_file


@pytest.mark.parametrize(
    ("name", "read"), [("model.keras", load_model), ("model.pth", read_torch_file)], ids=["keras", "torch"]
)
def test_zip_bombs_are_refused(name, read, tmp_path):
    if name == "model.pth":
        pytest.importorskip("torch")
    with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in ("config.json", "data.pkl", "model.weights.h5"):
            archive.writestr(member, bytes(24 * 2**20))
    with pytest.raises(ValueError, match=f"{name}.* 75,497,472 when they are unpacked"):
        read(tmp_path / name)
