import copy
import dataclasses
import pickle

import numpy as np
import pytest

from keras_crossvit import CrossViTConfig, list_models, variant_config
from keras_crossvit._internal.errors import CrossViTError
from keras_crossvit.models.config import drop_path_rates
from keras_crossvit.models.variants import VARIANTS
from tests.helpers import reference


def test_defaults_equal_crossvit_9_dagger():
    assert CrossViTConfig() == variant_config("crossvit_9_dagger")


def test_configuration_is_frozen_and_hashable():
    config = CrossViTConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.num_classes = 10
    assert len({config, CrossViTConfig(), copy.deepcopy(config), pickle.loads(pickle.dumps(config))}) == 1


def test_lists_and_arrays_are_accepted_for_tuples():
    as_lists = CrossViTConfig(
        img_size=[[96, 48], 32],
        patch_size=np.array([12, 16]),
        embed_dim=[16, 24],
        depth=[[1, 2, 0], [2, 1, 1]],
        num_heads=[2, 2],
        mlp_ratio=[4, 4],
    )
    as_tuples = CrossViTConfig(
        img_size=((96, 48), (32, 32)),
        patch_size=(12, 16),
        embed_dim=(16, 24),
        depth=((1, 2, 0), (2, 1, 1)),
        num_heads=(2, 2),
        mlp_ratio=(4.0, 4.0),
    )
    assert as_lists == as_tuples
    assert as_lists.image_sizes == ((96, 48), (32, 32))
    assert as_lists.patch_grids == ((8, 4), (2, 2))
    assert CrossViTConfig(**as_lists.to_dict()) == as_lists


@pytest.mark.parametrize(
    ("fields", "value", "remedy"),
    [
        ({"img_size": (250, 224)}, "img_size 250 is not a multiple of patch_size 12", "use 240 or 252"),
        ({"img_size": (240, (224, 100))}, "img_size 100 is not a multiple of patch_size 16", "use 96 or 112"),
        ({"img_size": (5, 224)}, "img_size 5 is not a multiple of patch_size 12", "use 12 or 24"),
        ({"img_size": 240}, "img_size 240", "one entry per branch"),
        ({"img_size": (240, (224, 224, 3))}, "[224, 224, 3]", "(height, width)"),
        ({"img_size": (240, "224")}, "'224' is not an integer", "use one of at least"),
        ({"img_size": (240, 0)}, "img_size 0", "at least 1"),
        ({"embed_dim": (130, 256)}, "embed_dim 130 is not divisible by num_heads 4", "128 or 132"),
        ({"embed_dim": (126, 256), "num_heads": (3, 4)}, "embed_dim 126 is not divisible by 4", "multi_conv=False"),
        ({"embed_dim": (128, 256, 512)}, "3 entries", "two branches"),
        ({"embed_dim": (128,)}, "1 entries", "two branches"),
        ({"patch_size": (8, 16), "img_size": (224, 224)}, "patch_size 8 has no multi_conv stem", "12 or 16"),
        ({"num_heads": (0, 4)}, "num_heads 0", "at least 1"),
        ({"num_heads": (4.5, 4)}, "num_heads 4.5 is not an integer", "use one of at least"),
        ({"depth": ()}, "depth ()", "three integers"),
        ({"depth": ((1, 3),)}, "(1, 3)", "three integers"),
        ({"depth": ((0, 3, 0),)}, "depth 0", "at least 1"),
        ({"depth": ((1, 3, -1),)}, "depth -1", "at least 0"),
        ({"mlp_ratio": (0, 3, 1)}, "mlp_ratio 0 is not positive", "above 0"),
        ({"mlp_ratio": (0.001, 3, 1)}, "mlp_ratio 0.001", "larger"),
        ({"num_classes": -1}, "num_classes -1", "at least 0"),
        ({"num_classes": True}, "num_classes True", "use one of at least"),
        ({"in_channels": 0}, "in_channels 0", "at least 1"),
        ({"drop_rate": -0.1}, "drop_rate -0.1 is outside", "0 to switch it off"),
        ({"attn_drop_rate": 1.0}, "attn_drop_rate 1 is outside", "less than 1"),
        ({"drop_path_rate": float("nan")}, "drop_path_rate nan", "finite number"),
        ({"qk_scale": 0}, "qk_scale 0 is not positive", "above 0"),
        ({"qkv_bias": 1}, "qkv_bias 1", "True or False"),
        ({"multi_conv": "yes"}, "multi_conv 'yes'", "True or False"),
    ],
)
def test_invalid_fields_are_refused_with_value_and_remedy(fields, value, remedy):
    with pytest.raises(ValueError, match=r".") as error:
        CrossViTConfig(**fields)
    assert value in str(error.value)
    assert remedy in str(error.value)


def test_single_convolution_accepts_any_patch_size():
    config = CrossViTConfig(patch_size=(8, 7), img_size=(16, 14), multi_conv=False, embed_dim=(6, 9), num_heads=(2, 3))
    assert config.patch_grids == ((2, 2), (2, 2))


def test_unknown_field_is_a_type_error_with_the_nearest_one():
    with pytest.raises(TypeError, match=r"'embed_dims'.*'embed_dim'"):
        variant_config("crossvit_9", embed_dims=(128, 256))
    with pytest.raises(TypeError, match=r"CrossViTConfig\(\).*'in_chans'.*'in_channels'"):
        CrossViTConfig(in_chans=1)
    with pytest.raises(TypeError, match=r"norm_layer.*LayerNorm"):
        variant_config("crossvit_9", norm_layer="batch")


def test_all_published_models_are_listed():
    assert set(list_models()) == set(reference.OUR_NAME.values())
    assert len(list_models()) == 11
    for name, variant in VARIANTS.items():
        assert variant.parameters == reference.records()[variant.timm_name]["parameters"], name
        assert [list(size) for size in variant.config.image_sizes] == reference.records()[variant.timm_name][
            "image_sizes"
        ]


@pytest.mark.parametrize("timm_name", reference.OUR_NAME)
def test_drop_path_rates_equal_the_reference(timm_name):
    config = variant_config(reference.OUR_NAME[timm_name], drop_path_rate=0.1)
    found = {}
    for stage, rates in enumerate(drop_path_rates(config)):
        for branch in (0, 1):
            for block in range(config.depth[stage][branch]):
                for half in (1, 2):
                    found[f"blocks.{stage}.blocks.{branch}.{block}.drop_path{half}"] = rates[block]
            found[f"blocks.{stage}.fusion.{branch}.drop_path"] = rates[-1]
    expected = reference.records()[timm_name]["drop_path_rate_0.1"]
    # The reference has no drop-path module for rate 0.
    assert {name: rate for name, rate in found.items() if rate > 0} == pytest.approx(expected, abs=1e-7)


def test_drop_path_rates_cover_a_deeper_small_patch_branch():
    config = CrossViTConfig(depth=((3, 1, 0), (2, 1, 1)), drop_path_rate=0.5)
    rates = drop_path_rates(config)
    assert [len(stage) for stage in rates] == [3, 3]
    assert np.concatenate(rates) == pytest.approx(np.linspace(0, 0.5, 6))


@pytest.mark.parametrize("field", ["num_classes", "in_channels", "embed_dim", "patch_size", "num_heads", "mlp_ratio"])
def test_numbers_without_end_are_refused(field):
    value = 10**400 if field in ("num_classes", "in_channels") else (10**400, 16)
    with pytest.raises(ValueError, match=field) as raised:
        CrossViTConfig(**{field: value})
    assert isinstance(raised.value, CrossViTError)
    with pytest.raises(CrossViTError, match="mlp_ratio"):
        CrossViTConfig(mlp_ratio=(1e308, 1e308))
