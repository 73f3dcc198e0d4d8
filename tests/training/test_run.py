"""Whole runs on small images: what they write, how they resume, and what a handed-over run folder can do."""

import csv
import dataclasses
import inspect
import json
import os
import shutil
import signal

import keras
import numpy as np
import pytest
from PIL import Image

import keras_crossvit as kc
from keras_crossvit._internal.errors import OperationError
from keras_crossvit.cli import main as cli
from keras_crossvit.evaluation import results
from keras_crossvit.pipeline import prepare
from keras_crossvit.runtimes import load_runtime
from keras_crossvit.training import RunInterrupted, get_recipe, plan_training, report
from keras_crossvit.training.dry_run import describe_plan
from keras_crossvit.training.finetuning import enable_lora
from keras_crossvit.training.report import write_report
from keras_crossvit.training.run_folder import RunFolder
from keras_crossvit.training.state import Position, StateFolder
from tests.helpers import image_folders
from tests.helpers.models import tiny
from tests.helpers.states import rewrite

CLASSES = ["dark", "gray", "light"]
SMALL = {"batch_size": 6, "learning_rate": 3e-3, "layer_decay": None, "rand_augment_ops": 0}
RECIPE = get_recipe("finetune", epochs=2, label_smoothing=0.0, **SMALL)
QUICK = dataclasses.replace(RECIPE, epochs=1, ema_momentum=None)


def small_model(class_names=CLASSES, **arguments):
    keras.utils.set_random_seed(0)
    return tiny(len(class_names), **{"class_names": class_names, **arguments})


def write_images(folder, class_names, *, training, validation, split="train"):
    random = np.random.default_rng(0)
    for label, name in enumerate(class_names):
        for subfolder, count in ((split, training[label]), ("val", validation)):
            (folder / subfolder / name).mkdir(parents=True)
            for i in range(count):
                values = random.normal(60 + 70 * label, 5, (50, 60, 3)).clip(0, 255).astype("uint8")
                Image.fromarray(values).save(folder / subfolder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), CLASSES, training=(8, 6, 4), validation=3)


def users_callbacks(folder):
    checkpoint = keras.callbacks.ModelCheckpoint(folder / "{epoch}.keras", "loss", save_best_only=True, mode="max")
    return [checkpoint, keras.callbacks.CSVLogger(folder / "log.csv", append=True)]


def train(images, output, *, recipe=RECIPE, callbacks=(), **arguments):
    callbacks = [*callbacks, *(users_callbacks(output.parent) if recipe is RECIPE else ())]
    settings = {"model": small_model(), "class_weights": "balanced", "verbose": False, **arguments}
    return kc.train(images, output=output, recipe=recipe, callbacks=callbacks, **settings)


class BeforeStep(keras.callbacks.Callback):
    """Calls a function before a step, counted from 0."""

    def __init__(self, step, call):
        super().__init__()
        self._step, self._call = step, call

    def on_train_batch_begin(self, batch, logs=None):
        if self.model.optimizer.iterations == self._step:
            self._call()


@pytest.fixture(scope="module")
def finished(images, tmp_path_factory):
    """A run whose folder and the users' files are copied in the second epoch, as a killed process would leave them."""
    folder = tmp_path_factory.mktemp("runs")
    copy = BeforeStep(4, lambda: shutil.copytree(folder / "whole", folder / "killed"))
    return train(images, folder / "whole" / "run", callbacks=[copy], checkpoint_every="1steps")


@pytest.fixture
def handed_over(finished, tmp_path):
    """A copy of the finished run with only the state before the last."""
    shutil.copytree(finished.folder, tmp_path / "run")
    StateFolder(tmp_path / "run" / "resume").files()[-1].unlink()
    return RunFolder(tmp_path / "run")


def test_a_run_whose_folder_is_replaced_ends_before_it_saves(images, tmp_path):
    def replace():
        shutil.rmtree(tmp_path / "run")
        (tmp_path / "run").mkdir()

    with pytest.raises(OperationError, match="removed or replaced"):
        train(images, tmp_path / "run", recipe=QUICK, callbacks=[BeforeStep(0, replace)], checkpoint_every="1steps")
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_the_signature_has_all_settings_of_a_plan():
    parameters, planned = (inspect.signature(each).parameters for each in (kc.train, plan_training))
    for name, parameter in planned.items():
        if name != "report":
            assert parameters[name].default == parameter.default


def test_the_run_folder_has_models_metrics_plots_and_report(finished):
    names = {str(path.relative_to(finished.folder)) for path in finished.folder.rglob("*") if path.is_file()}
    assert {
        "config.json", "class_names.txt", "metrics.csv", "train.log", "best.keras", "last.keras", "learning_curves.png",
        "contact_sheet.png", "evaluation/confusion.png", "evaluation/reliability.png", "evaluation/evaluation.json",
        "report.html",
    } <= names  # fmt: skip
    assert not [name for name in names if ".unfinished" in name]
    assert (finished.folder / "class_names.txt").read_text().split() == CLASSES
    weights = json.loads((finished.folder / "config.json").read_text())["class_weights"]
    assert weights == pytest.approx([0.75, 1.0, 1.5])
    with (finished.folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {"learning_rate", "loss", "val_loss", "val_accuracy", "images_per_second"} <= rows[0].keys()
    assert list((finished.folder / "tensorboard" / "validation").iterdir())


def test_the_report_contains_its_images_and_the_result(finished):
    page = finished.report.read_text()
    assert page.count("data:image/png;base64,") == 7 + bool(finished.evaluation.worst_mistakes)
    for row in finished.evaluation.least_certain:
        assert f"{row['probability']:.2%}" in page
    with Image.open(finished.folder / "evaluation" / "least_certain.png") as sheet:
        assert np.ptp(np.asarray(sheet).reshape(-1, 3).astype(int), axis=1).max() > 60  # the images are gray, heat not
    assert 'src="http' not in page
    assert f"{finished.evaluation.top1:.2%}" in page
    assert "18 training and\n    9 validation images in 3 classes" in page
    assert "width=device-width" in page


def test_the_best_model_has_class_names_no_optimizer_and_the_metrics_of_its_epoch(finished, images):
    model = keras.saving.load_model(finished.best)
    assert model.class_names == tuple(CLASSES)
    assert not model.compiled
    evaluation = kc.evaluate(finished.folder, images)
    assert evaluation.images == 9
    best = max(finished.history, key=lambda row: row["val_accuracy"])  # the first of equal ones
    assert evaluation.top1 == pytest.approx(best["val_accuracy"], abs=1e-6)
    assert model.calibration == finished.model.calibration
    model.calibration = None
    assert kc.evaluate(model, images).loss == pytest.approx(best["val_loss"], rel=1e-4)
    stored = json.loads((finished.folder / "evaluation" / "evaluation.json").read_text())
    assert stored["top1"] == evaluation.top1


def test_a_validation_set_is_evaluated_without_training_images(finished, images, tmp_path):
    shutil.copytree(images / "val", tmp_path / "val")
    (tmp_path / "val" / "dark" / "2.png").unlink()
    shutil.rmtree(tmp_path / "val" / "gray")
    (tmp_path / "val" / "gray").mkdir()
    evaluation = kc.evaluate(finished.folder, tmp_path)
    assert evaluation.images == 5
    assert [row["images"] for row in evaluation.per_class] == [2, 0, 3]
    assert evaluation.worst_first[-1]["class"] == "gray"  # without images
    for name in ("dark", "light"):
        shutil.rmtree(tmp_path / "val" / name)
    with pytest.raises(ValueError, match=str(tmp_path)):
        kc.evaluate(finished.folder, tmp_path)


def test_classes_are_matched_by_name(images):
    model = small_model(["light", "other", "dark", "gray"])
    assert kc.evaluate(model, images).confusion.shape == (3, 3)
    with pytest.raises(ValueError, match="'dark'"):
        kc.evaluate(small_model(["a", "b", "c"]), images)


def test_a_finished_run_is_not_trained_again(finished, images):
    before = (finished.folder / "metrics.csv").read_bytes()
    assert train(images, finished.folder).history == finished.history
    assert (finished.folder / "metrics.csv").read_bytes() == before


def test_a_killed_run_with_callbacks_is_resumed_bit_identically(finished, images):
    killed = finished.folder.parents[1] / "killed"
    assert StateFolder(killed / "run" / "resume").newest().position == Position(1, 1)
    train(images, killed / "run")
    losses = [row["loss"] for row in finished.history]
    assert losses[1] < losses[0]
    assert [path.name for path in killed.glob("*.keras")] == ["1.keras"]  # the second epoch is known to be no higher
    assert kc.load_model(killed / "1.keras").config == finished.model.config
    with (killed / "log.csv").open() as file:
        assert [float(row["loss"]) for row in csv.DictReader(file)] == losses
    for name in ("best.keras", "last.keras"):
        resumed, whole = (keras.saving.load_model(folder / name) for folder in (killed / "run", finished.folder))
        for one, other in zip(resumed.get_weights(), whole.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("callback", "reason"),
    [
        (keras.callbacks.ReduceLROnPlateau(), "ReduceLROnPlateau sets the learning rate.*recipe"),
        (keras.callbacks.LearningRateScheduler(lambda epoch: 0.1), "sets the learning rate"),
        (keras.callbacks.BackupAndRestore("backup"), "resumed anyway"),
        (keras.callbacks.SwapEMAWeights(), "ema_momentum"),
        ("EarlyStopping", "Expected Keras callbacks, got str"),
    ],
)
def test_callbacks_that_a_run_cannot_have_are_refused_first(callback, reason):
    with pytest.raises((TypeError, ValueError), match=reason):
        kc.train("nowhere", callbacks=[callback])


def test_a_run_on_shards_in_mixed_precision_stops_by_patience(tmp_path):
    class_names = list(image_folders.COLOURS)
    plain = image_folders.write_plain(tmp_path / "plain", 4)
    prepare(plain, tmp_path / "shards", validation_split=0.25, shard_bytes=10_000)
    frozen = {"learning_rate": 1e-12, "warmup_fraction": 0, "final_learning_rate": 0}
    others = {"epochs": 4, "batch_size": 3, "patience": 1, "precision": "mixed_float16"}
    recipe = get_recipe("finetune", **{**SMALL, **frozen, **others})

    model = small_model(class_names, dtype=recipe.precision)
    result = train(tmp_path / "shards", tmp_path / "run", model=model, recipe=recipe, class_weights=None)
    assert [row["epoch"] for row in result.history] == [1, 2]
    assert result.model.get_layer("stage_0_small_patch_block_0").dtype_policy.name == recipe.precision
    assert result.evaluation.images == 3


def test_lora_and_ema_train_on_a_dataset_and_are_merged_in_saved_models(tmp_path):
    model = small_model(list(image_folders.COLOURS))
    enable_lora(model, 2)
    before = kc.state_dict(model)
    recipe = get_recipe("finetune", **{**SMALL, "epochs": 1, "batch_size": 3, "ema_momentum": 0.5, "layer_decay": 0.5})
    result = train(
        (image_folders.dataset(9), image_folders.dataset(3)), tmp_path / "run", model=model, recipe=recipe,
        class_names=list(image_folders.COLOURS), class_weights=None, gradient_checkpointing=True,
    )  # fmt: skip
    best, last = kc.state_dict(result.model), kc.state_dict(keras.saving.load_model(result.folder / "last.keras"))
    assert best.keys() == before.keys()
    changed = {name for name in before if (best[name] != before[name]).any()}
    assert all("attn" in name or "head" in name for name in changed)
    assert {name.split(".")[0] for name in changed} >= {"blocks", "head"}
    for name, array in best.items():
        np.testing.assert_array_equal(array, last[name])  # both are the EMA


def test_other_settings_for_the_same_folder_are_refused(finished, images):
    with pytest.raises(ValueError, match=r"recipe\.epochs \(stored 2, given 3\)"):
        train(images, finished.folder, recipe=dataclasses.replace(RECIPE, epochs=3))


@pytest.mark.parametrize(
    ("callback", "forged"),
    [
        ("MetricsTable-0", {"_path": "precious"}),
        ("MetricsTable-0", {"_logs": "precious"}),
        ("BestModel-0", {"_path": "precious"}),
        ("Progress-0", {"_log": "precious"}),
        ("EvaluateEMA-0", {"overwrite": True}),
    ],
)
def test_a_state_cannot_redirect_what_is_written(callback, forged, handed_over, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "precious").write_text("precious")
    (state,) = StateFolder(handed_over.states).files()
    rewrite(state, lambda metadata: metadata["callbacks"].setdefault(callback, {}).update(forged))
    with pytest.raises(ValueError, match=f"{state.name}.*{callback}"):
        train(images, handed_over.path)
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_run_without_settings_is_not_resumed_with_other_classes(handed_over, images, tmp_path):
    handed_over.config_file.unlink()
    shutil.copytree(images, tmp_path / "images")
    for split in ("train", "val"):
        (tmp_path / "images" / split / "dark").rename(tmp_path / "images" / split / "black")
    with pytest.raises(ValueError, match=r"config\.json"):
        train(tmp_path / "images", handed_over.path, model=small_model(class_names=CLASSES), class_weights=None)
    assert handed_over.class_names.read_text().split() == CLASSES


def test_a_state_of_other_settings_is_refused_even_with_matching_settings_beside_it(handed_over, images, tmp_path):
    other = dataclasses.replace(RECIPE, learning_rate=1e-3)
    with RunFolder(tmp_path / "other") as folder:
        folder.claim(plan_training(images, model=small_model(), recipe=other).settings())
    shutil.copytree(handed_over.states, folder.states)
    with pytest.raises(ValueError, match="other settings"):
        train(images, folder.path, recipe=other, class_weights=None)


def test_another_model_in_place_of_the_best_is_refused(finished, images, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "run")
    kc.save_checkpoint(tiny(4), tmp_path / "run" / "best.keras")
    with pytest.raises(ValueError, match=r"best\.keras"):
        train(images, tmp_path / "run")


def test_the_report_escapes_names(handed_over, finished):
    row = {**finished.history[-1], "<script>accuracy": 0.5}
    write_report(handed_over, [row], None, [("<script>.png", "<script>")], {"contact_sheet.png": "<script>"})
    page = handed_over.report.read_text()
    assert page.count("&lt;script&gt;") == 5
    assert "<script>" not in page


def test_a_report_is_written_without_plots_and_shows_no_direction_marks(handed_over, finished):
    for plot in handed_over.path.rglob("*.png"):
        plot.unlink()
    missing = {"contact_sheet.png": "no \u202efont <b>"}
    write_report(handed_over, finished.history, finished.evaluation, [("\u2066a\x9b.png", "empty")], missing)
    page = handed_over.report.read_text(encoding="utf-8")
    assert "learning_curves.png is missing" in page
    assert "confusion.png is missing" in page
    assert "contact_sheet.png could not be drawn (no \\u202efont &lt;b&gt;)" in page
    assert "\\u2066a\\x9b.png" in page
    assert page.replace("\n", "").isprintable()


def test_unusual_names_and_a_plot_that_fails_do_not_cost_the_report(tmp_path, monkeypatch, capsys):
    def fail(path, *arguments):
        raise ValueError("no <font>")

    monkeypatch.setattr(results, "draw_reliability", fail)
    monkeypatch.setattr(report, "draw_reliability", fail)
    monkeypatch.setattr(report, "draw_explained_images", fail)
    class_names = ["price $\\foo$", "two\nlines <b>", os.fsdecode(b"caf\xe9")]
    folder = tmp_path / os.fsdecode(b"caf\xe9s")
    images = write_images(folder, class_names, training=(4, 4, 4), validation=2, split="Training")
    model = small_model(sorted([*class_names[:2], "caf\\udce9"]))
    recipe = dataclasses.replace(QUICK, batch_size=4)
    result = train(images, tmp_path / "run", model=model, recipe=recipe, verbose=True)
    page = result.report.read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 4
    for name in ("reliability.png", "least_certain.png"):
        assert f"{name} could not be drawn (ValueError: no &lt;font&gt;)" in page
    assert "two\\nlines &lt;b&gt;/0.png" in page  # the file of an image to look at
    assert "price $\\foo$" in page
    assert "caf\\udce9" in page
    assert (tmp_path / "run" / "evaluation" / "confusion.png").is_file()
    printed = capsys.readouterr().out
    assert "'reliability.png'" in printed
    assert "3 classes: caf\\udce9, price $\\foo$, two\\nlines <b>" in printed
    assert np.isfinite(result.evaluation.loss)


def test_a_dry_run_describes_steps_decay_and_memory(images):
    text = describe_plan(plan_training(images, model=small_model(), recipe=RECIPE))
    assert "2 epochs of 3, 6 in" in text
    assert "momentum 0.375" in text  # for 6 updates; the recipe's 0.99 would keep the initial weights
    assert "out of each epoch" not in text  # 18 images are three batches of 6
    assert "GiB" in text
    assert "█" in text


def test_an_interrupted_run_without_validation_set_logs_that_and_lists_unreadable_images(images, tmp_path, capsys):
    shutil.copytree(images / "val", tmp_path / "flat")
    (tmp_path / "flat" / "dark" / "broken.png").write_bytes(b"not an image")
    recipe = dataclasses.replace(QUICK, batch_size=4, precision="mixed_float16")

    def run(*callbacks):
        settings = {"model": small_model(dtype=recipe.precision), "max_unreadable": 1, "verbose": True}
        return train(tmp_path / "flat", tmp_path / "run", recipe=recipe, callbacks=callbacks, **settings)

    with pytest.raises(RunInterrupted):
        run(BeforeStep(0, lambda: signal.raise_signal(signal.SIGINT)))
    assert StateFolder(tmp_path / "run" / "resume").newest().position == Position(0, 1)
    result = run()
    printed = capsys.readouterr().out
    assert "validation_split" in printed
    assert "Resuming the run" in printed
    assert "epoch 1/1" in printed
    assert "Evaluating" not in printed
    assert result.evaluation is None
    with (tmp_path / "run" / "unreadable.csv").open() as file:
        (unreadable,) = csv.DictReader(file)
    assert unreadable["file"] == str(tmp_path / "flat" / "dark" / "broken.png")
    assert unreadable["file"] in result.report.read_text()
    assert list(load_runtime(tmp_path / "run").class_names) == CLASSES
    run()
    assert "epoch 1/1" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "crossvit_8"], "crossvit_8"),
        (["--set", "epochs"], "is not FIELD=VALUE"),
        (["--set", "epoch=3"], "did you mean 'epochs'"),
        (["--weights", "none", "--batch-size", "1000"], "batch_size 1000"),
        (["--teacher", "nowhere.keras"], "nowhere.keras"),
        (["--checkpoint-every", "5"], "'5'"),
    ],
)
def test_a_mistake_is_one_line(images, tmp_path, arguments, message, capsys):
    code = cli.main(["train", str(images), "--output", str(tmp_path / "run"), *arguments])
    assert code == cli.EXIT_MISTAKE
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert message in error
