import pytest

import keras_crossvit as kc
from keras_crossvit.models.variants import VARIANTS
from keras_crossvit.training import get_recipe
from keras_crossvit.training.dry_run import memory_estimate

TENSORFLOW = 1.5  # GiB of main memory beside what a model takes
# Peaks of main memory in GiB over three steps on a CPU.
MEASURED = [
    ("crossvit_9_dagger", 16, "float32", False, 3.14),
    ("crossvit_9_dagger", 48, "float32", False, 6.19),
    ("crossvit_9_dagger", 48, "float32", True, 4.24),
    ("crossvit_9_dagger", 48, "mixed_bfloat16", False, 4.53),
    ("crossvit_small", 16, "float32", False, 4.90),
    ("crossvit_small", 16, "float32", True, 3.29),
]


@pytest.mark.parametrize(("name", "batch_size", "precision", "again", "peak"), MEASURED)
def test_memory_estimate_is_near_what_was_measured(name, batch_size, precision, recompute, peak):
    recipe = get_recipe("imagenet", batch_size=batch_size, precision=precision)
    config, parameters = kc.variant_config(name), VARIANTS[name].parameters
    state, activations = memory_estimate(config, recipe, parameters, batch_size, recompute=recompute)
    assert (state + activations) / 2**30 == pytest.approx(peak - TENSORFLOW, rel=0.15)
