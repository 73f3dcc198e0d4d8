"""Every published model equals the stored results of the reference, and timm itself where it is installed."""

import keras
import numpy as np
import pytest

import keras_crossvit as kc
from tests.helpers import reference, timm_reference
from tests.helpers.reference_checks import check_model

NAMES = list(reference.OUR_NAME)  # as timm has them
# Float32 over up to 24 blocks; the logits are of size 1.
ROUNDING = 3e-5


@pytest.fixture(scope="module", params=NAMES)
def published(request):
    """timm's name of a model, and ours with the reference's weights."""
    name = request.param
    return name, kc.create_model(reference.OUR_NAME[name], weights=reference.draw_weights(name))


def test_outputs_equal_the_stored_ones(published):
    check_model(*published)


@pytest.mark.parity
@pytest.mark.skipif(not timm_reference.is_installed(), reason=f"needs timm: {timm_reference.INSTALLATION}")
def test_weights_convert_both_ways_and_give_the_same_logits(published, tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    name, ours = published
    with torch.device("meta"):  # without weights
        theirs = timm_reference.import_timm().create_model(name, pretrained=False).eval()
    height, width = ours.config.image_sizes[0]
    image = np.random.RandomState(0).randn(1, height, width, 3).astype("float32")
    single = kc.single_image(ours)

    def require_same_logits():
        with torch.inference_mode():
            expected = theirs(torch.tensor(image).permute(0, 3, 1, 2)).numpy()
        found = keras.ops.convert_to_numpy(single(image))
        np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING)
        return expected

    kc.save_checkpoint(ours, tmp_path / "ours.safetensors")
    theirs.load_state_dict(load_file(tmp_path / "ours.safetensors"), strict=True, assign=True)
    first = require_same_logits()

    theirs.load_state_dict({key: tensor.flip(-1) + 0.005 for key, tensor in theirs.state_dict().items()})
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    kc.load_checkpoint(ours, tmp_path / "theirs.pth")
    assert np.abs(require_same_logits() - first).max() > 0.1
