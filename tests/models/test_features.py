import keras
import numpy as np
import pytest

import keras_crossvit as kc
from keras_crossvit.training import finetuning
from tests.helpers import reference
from tests.helpers.backends import call
from tests.helpers.models import DEEPER, images, tiny


def test_feature_extractor_returns_every_stage_and_branch_and_shares_weights():
    model = tiny(img_size=((96, 48), 32), **DEEPER)
    extractor = kc.feature_extractor(model)
    shapes = {name: output.shape for name, output in extractor.output.items()}
    assert shapes == {
        "stage_0_small_patch": (None, 33, 16),
        "stage_0_large_patch": (None, 5, 24),
        "stage_1_small_patch": (None, 33, 16),
        "stage_1_large_patch": (None, 5, 24),
    }
    before = call(extractor, images(model))["stage_0_small_patch"]
    model.get_layer("small_patch_tokens").class_token.assign(np.eye(16)[None, :1])
    assert np.abs(call(extractor, images(model))["stage_0_small_patch"] - before).max() > 1e-3


def test_wrappers_can_be_made_in_any_order():
    model = tiny()
    first = kc.single_image(model)
    kc.feature_extractor(model)
    second = kc.single_image(model)
    inputs = images(model)[0]
    np.testing.assert_array_equal(call(first, inputs), call(second, inputs))


def test_single_image_has_one_named_input_and_the_model_outputs():
    model = tiny(classifier_activation="softmax")
    single = kc.single_image(model)
    assert [each.name for each in single.inputs] == ["image"]
    assert single.output_names == ["probabilities"]
    assert single.count_params() == model.count_params()


def test_bicubic_resize_equals_the_reference():
    stored = reference.surroundings()
    image = stored["bicubic/in_nchw"].transpose(0, 2, 3, 1)
    for size in ("11x23", "34x46", "16x15"):
        height, width = map(int, size.split("x"))
        resized = call(kc.layers.BicubicResize(height, width), image)
        # the reference's float32 positions differ by 4e-6
        np.testing.assert_allclose(resized.transpose(0, 3, 1, 2), stored[f"bicubic/{size}"], rtol=0, atol=1e-5)


def test_wrappers_and_clones_are_refused(tmp_path):
    model = tiny()
    single = kc.single_image(model)
    for wrong in (single, keras.models.clone_model(model)):
        for use in (
            kc.single_image,
            kc.feature_extractor,
            kc.state_dict,
            lambda other: kc.load_checkpoint(other, kc.state_dict(model)),
            lambda other: kc.save_checkpoint(other, tmp_path / "weights.safetensors"),
            lambda other: kc.preprocess(np.zeros((9, 9, 3), "uint8"), other),
            lambda other: finetuning.enable_lora(other, rank=2),
            finetuning.freeze_all_but_head,
            finetuning.unfreeze,
            finetuning.learning_rate_scales,
        ):
            with pytest.raises(TypeError, match="Functional"):
                use(wrong)
    assert len(single.trainable_variables) == len(model.weights)
    assert not list(tmp_path.iterdir())
