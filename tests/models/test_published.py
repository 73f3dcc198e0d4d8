"""Every published model equals the stored results of the reference, and timm itself where it is installed."""

import numpy as np
import pytest

import keras_crossvit as kc
from tests.helpers import reference, timm_reference
from tests.helpers.backends import call
from tests.helpers.reference_checks import check_model

NAMES = list(reference.OUR_NAME)  # as timm has them
# Float32 over up to 24 blocks; the logits are of size 1.
ROUNDING = 3e-5


@pytest.fixture(scope="module", params=NAMES)
def published(request):
    """timm's name of a model, the reference's weights, and our model with these."""
    name = request.param
    weights = reference.draw_weights(name)
    return name, weights, kc.create_model(reference.OUR_NAME[name], weights=weights)


def test_outputs_equal_the_stored_ones(published):
    name, _, model = published
    check_model(name, model)


@pytest.mark.parity
@pytest.mark.skipif(not timm_reference.is_installed(), reason=f"needs timm: {timm_reference.INSTALLATION}")
def test_weights_convert_both_ways_and_give_the_same_logits(published, tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    name, weights, ours = published
    with torch.device("meta"):  # without weights
        theirs = timm_reference.import_timm().create_model(name, pretrained=False).eval()
    kc.save_checkpoint(ours, tmp_path / "ours.safetensors")
    theirs.load_state_dict(load_file(tmp_path / "ours.safetensors"), strict=True, assign=True)
    state = theirs.state_dict()
    for key, array in weights.items():
        np.testing.assert_array_equal(state[key].numpy(), array)

    for tensor in state.values():
        tensor.neg_()
    torch.save(state, tmp_path / "theirs.pth")
    kc.load_checkpoint(ours, tmp_path / "theirs.pth")
    image = reference.draw_images(name)[0][:1]
    with torch.inference_mode():
        expected = theirs(torch.tensor(image).permute(0, 3, 1, 2)).numpy()
    assert np.abs(expected - reference.arrays()[f"{name}/logits_one_image"][:1]).max() > 0.1  # of other weights
    np.testing.assert_allclose(call(kc.single_image(ours), image), expected, rtol=0, atol=ROUNDING)
