"""Rules that hold for every configuration."""

import json

from hypothesis import given
from hypothesis import strategies as st

from keras_crossvit import CrossViTConfig
from keras_crossvit.models.config import drop_path_rates
from tests.helpers.configurations import configurations


@given(configurations())
def test_a_configuration_survives_json(config):
    assert CrossViTConfig(**json.loads(json.dumps(config.to_dict()))) == config


@given(configurations(), st.floats(0, 0.9))
def test_drop_path_rises_from_zero_to_its_rate(config, rate):
    config = CrossViTConfig(**{**config.to_dict(), "drop_path_rate": rate})
    stages = drop_path_rates(config)
    assert [len(rates) for rates in stages] == [max(small, large) + rounds for small, large, rounds in config.depth]
    rates = [each for stage in stages for each in stage]
    assert rates == sorted(rates)
    assert rates[0] == 0
    assert len(rates) == 1 or abs(rates[-1] - rate) < 1e-12


@given(configurations())
def test_patches_tile_the_images(config):
    for (height, width), (rows, columns), size in zip(
        config.image_sizes, config.patch_grids, config.patch_size, strict=True
    ):
        assert (rows * size, columns * size) == (height, width)
