"""Agreement with timm for every published model, in both directions: `pytest -m parity`."""

import keras
import numpy as np
import pytest

import keras_crossvit
from benchmarks.data import reference_weights
from keras_crossvit.checkpoints import timm_name
from keras_crossvit.models.variants import VARIANTS
from keras_crossvit.training import finetuning
from tests.helpers import timm_reference

torch = pytest.importorskip("torch")
load_file = pytest.importorskip("safetensors.torch").load_file

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(not timm_reference.is_installed(), reason=f"needs timm: {timm_reference.INSTALLATION}"),
]


def create_timm_model(variant, **arguments):
    timm = timm_reference.import_timm()
    return timm.create_model(VARIANTS[variant].timm_name, pretrained=False, **arguments).eval()


def timm_logits(model, image):
    with torch.inference_mode():
        return model(torch.tensor(image).permute(0, 3, 1, 2)).numpy()


def our_logits(model, image):
    return keras.ops.convert_to_numpy(keras_crossvit.single_image(model)(image))


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_weights_convert_both_ways_and_give_the_same_logits(variant, tmp_path):
    theirs, ours = create_timm_model(variant), keras_crossvit.create_model(variant)
    shapes = {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}
    height, width = ours.config.image_sizes[0]
    image = np.random.RandomState(0).randn(1, height, width, 3).astype("float32")

    keras_crossvit.load_checkpoint(ours, reference_weights(shapes, seed=1))
    keras_crossvit.save_checkpoint(ours, tmp_path / "ours.safetensors")
    theirs.load_state_dict(load_file(tmp_path / "ours.safetensors"), strict=True)
    # Float32 over up to 24 blocks; the logits are of size 1.
    first = timm_logits(theirs, image)
    np.testing.assert_allclose(our_logits(ours, image), first, rtol=0, atol=3e-5)

    theirs.load_state_dict({name: torch.tensor(array) for name, array in reference_weights(shapes, seed=2).items()})
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    keras_crossvit.load_checkpoint(ours, tmp_path / "theirs.pth")
    second = timm_logits(theirs, image)
    assert np.abs(second - first).max() > 0.1
    np.testing.assert_allclose(our_logits(ours, image), second, rtol=0, atol=3e-5)


def timm_groups(groups, model):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)]: group for group in groups for parameter in group["params"]}


def test_variables_without_weight_decay_equal_timm():
    timm_reference.import_timm()
    from timm.optim import param_groups_weight_decay

    theirs, ours = create_timm_model("crossvit_9_dagger"), keras_crossvit.crossvit_9_dagger()
    groups = timm_groups(param_groups_weight_decay(theirs, 0.05, no_weight_decay_list=theirs.no_weight_decay()), theirs)
    without = {timm_name(variable.path, ours.config) for variable in finetuning.no_weight_decay_variables(ours)}
    assert without == {name for name, group in groups.items() if group["weight_decay"] == 0}


def test_layer_wise_learning_rates_equal_timm():
    timm_reference.import_timm()
    from timm.optim import param_groups_layer_decay

    theirs, ours = create_timm_model("crossvit_9_dagger"), keras_crossvit.crossvit_9_dagger()
    groups = timm_groups(param_groups_layer_decay(theirs, layer_decay=0.5), theirs)
    scales = finetuning.learning_rate_scales(ours, decay=0.5)
    by_timm_name = {timm_name(path, ours.config): scale for path, scale in scales.items()}
    assert by_timm_name == {name: group["lr_scale"] for name, group in groups.items()}
