import pytest

import keras_crossvit as kc
from keras_crossvit.checkpoints import timm_name
from tests.helpers import reference
from tests.helpers.models import DEEPER, tiny


@pytest.mark.parametrize("name", reference.TINY)
def test_every_variable_has_its_own_name_and_timm_shape(name):
    model = kc.build_crossvit(reference.tiny_config(name))
    found = {tensor: list(array.shape) for tensor, array in kc.state_dict(model).items()}
    assert found == reference.records()[name]["shapes"]
    assert len(found) == len(model.weights)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("small_patch_tokens/class_token", "cls_token_0"),
        ("large_patch_tokens/position_embedding", "pos_embed_1"),
        ("large_patch_embedding/convolution_2/kernel", "patch_embed.1.proj.4.weight"),
        ("stage_1_large_patch_block_0/attention/qkv/bias", "blocks.1.blocks.1.0.attn.qkv.bias"),
        ("stage_0_small_patch_fusion/own_norm/gamma", "blocks.0.projs.0.0.weight"),
        ("stage_0_small_patch_fusion/attention_0/key/kernel", "blocks.0.fusion.0.attn.wk.weight"),
        ("stage_1_large_patch_fusion/to_own/bias", "blocks.1.revert_projs.1.2.bias"),
        ("large_patch_head/kernel", "head.1.weight"),
    ],
)
def test_names_equal_timm(ours, theirs):
    assert timm_name(ours, tiny(**DEEPER).config) == theirs


def test_rounds_of_cross_attention_are_numbered_if_the_depth_has_any():
    numbered = kc.variant_config("crossvit_9", depth=((1, 1, 2),))
    path = "stage_0_small_patch_fusion/attention_norm_1/beta"
    assert timm_name(path, numbered) == "blocks.0.fusion.0.1.norm1.bias"
    assert timm_name(path.replace("_1/", "_0/"), kc.variant_config("crossvit_9")) == "blocks.0.fusion.0.norm1.bias"


@pytest.mark.parametrize("path", ["dense/kernel", "stage_9_small_patch_block_0/mlp_norm/beta", "small_patch_head"])
def test_unknown_variables_are_refused(path):
    with pytest.raises(ValueError, match=path):
        timm_name(path, kc.variant_config("crossvit_9"))
