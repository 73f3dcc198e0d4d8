"""Runs on what is read from its beginning to its end: shards and datasets."""

import signal

import keras
import numpy as np
import pytest

import keras_crossvit as kc
from keras_crossvit import state_dict
from keras_crossvit.pipeline import Augmentation, open_dataset, prepare, training_batches
from keras_crossvit.training import get_recipe
from keras_crossvit.training.finetuning import enable_lora
from keras_crossvit.training.resume import ResumableState
from tests.helpers import collections, training
from tests.helpers.models import tiny

CLASSES = list(collections.COLOURS)
CONFIG = kc.variant_config("crossvit_9_dagger", num_classes=len(CLASSES), img_size=(48, 32))
PLAIN = {"epochs": 1, "batch_size": 3, "learning_rate": 3e-3, "rand_augment_ops": 0}  # of nine pictures


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    prepare(
        collections.write_plain(folder / "plain", 4),
        folder / "shards",
        validation_split=0.25,
        shard_bytes=10_000,
    )
    return folder / "shards"


def small_model(**arguments):
    keras.utils.set_random_seed(0)
    return tiny(len(CLASSES), depth=((1, 1, 0),), class_names=CLASSES, **arguments)


def interrupt_after(step):
    def interrupt(self, batch, logs=None, write=ResumableState.on_train_batch_end):
        if self._steps_here + 1 == step:
            signal.raise_signal(signal.SIGINT)
        write(self, batch, logs)

    return interrupt


@pytest.mark.parametrize("kind", ["shards", "dataset"])
def test_interrupted_within_an_epoch_it_goes_on_exactly(kind, shards, tmp_path):
    data, names = (shards, None) if kind == "shards" else (collections.dataset(9), CLASSES)
    source = open_dataset(data, class_names=names)

    def batches(epoch, skip):
        return training_batches(source, CONFIG, Augmentation.none(), 3, seed=0, epoch=epoch, skip_batches=skip)

    interrupt = training.After(2, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        training.run(tmp_path / "interrupted", interrupt, epochs=1, batches=batches)
    resumed, whole = (training.run(tmp_path / name, epochs=1, batches=batches) for name in ("interrupted", "whole"))
    for one, other in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_shards_are_trained_on_and_an_interrupted_run_goes_on(shards, tmp_path, monkeypatch):
    still = {"epochs": 4, "patience": 1, "learning_rate": 1e-12, "warmup_fraction": 0, "final_learning_rate": 0}
    recipe = get_recipe("finetune", **{**PLAIN, **still, "precision": "mixed_float16", "layer_decay": None})
    settings = {"recipe": recipe, "output": tmp_path / "run", "quiet": True}
    with monkeypatch.context() as patch:
        patch.setattr(ResumableState, "on_train_batch_end", interrupt_after(2))
        with pytest.raises(KeyboardInterrupt, match="goes on from here"):
            kc.train(shards, model=small_model(dtype=recipe.precision), **settings)
    result = kc.train(shards, model=small_model(dtype=recipe.precision), **settings)
    assert [row["epoch"] for row in result.history] == [1, 2]  # nothing was learnt, so patience ended
    assert result.model.get_layer("stage_0_small_patch_block_0").dtype_policy.name == recipe.precision
    assert result.evaluation.images == 3


def test_a_dataset_is_trained_on_with_running_means_of_what_lora_leaves_to_train(tmp_path):
    model = small_model()
    enable_lora(model, 2)
    before = state_dict(model)
    recipe = get_recipe("finetune", **PLAIN, ema_momentum=0.5, layer_decay=0.5)
    settings = {"class_names": CLASSES, "gradient_checkpointing": True, "output": tmp_path / "run", "quiet": True}
    result = kc.train((collections.dataset(9), collections.dataset(3)), model=model, recipe=recipe, **settings)
    best, last = state_dict(result.model), state_dict(keras.saving.load_model(result.folder / "last.keras"))
    assert best.keys() == before.keys()  # nothing of LoRA's own is left
    changed = {name for name in before if (best[name] != before[name]).any()}
    assert all("attn" in name or "head" in name for name in changed)
    assert {name.split(".")[0] for name in changed} >= {"blocks", "head"}
    for name, array in best.items():
        np.testing.assert_array_equal(array, last[name])  # both are the mean
