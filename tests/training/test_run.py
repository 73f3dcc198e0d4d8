"""A whole run on a folder of pictures, its resumption and its evaluation."""

import csv
import dataclasses
import json
import shutil
import signal

import keras
import numpy as np
import pytest
from PIL import Image

import keras_crossvit as kc
from keras_crossvit.cli import main as cli
from keras_crossvit.runtimes import load_runtime
from keras_crossvit.training import get_recipe, plan_training
from keras_crossvit.training.dry_run import describe_plan
from keras_crossvit.training.report import write_report
from keras_crossvit.training.resume import ResumableState
from keras_crossvit.training.run_folder import RunFolder
from keras_crossvit.training.state import StateFolder
from tests.helpers.models import tiny
from tests.helpers.states import rewrite

CLASSES = ["dark", "gray", "light"]
RECIPE = get_recipe(
    "finetune", epochs=2, batch_size=6, learning_rate=3e-3, layer_decay=None, rand_augment_ops=0, label_smoothing=0.0
)


def small_model():
    keras.utils.set_random_seed(0)
    return tiny(3, depth=((1, 1, 0),), class_names=CLASSES, drop_path_rate=0.2)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        for split, count in (("train", 8 - 2 * label), ("val", 3)):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                values = random.normal(60 + 70 * label, 5, (50, 60, 3)).clip(0, 255).astype("uint8")
                Image.fromarray(values).save(folder / split / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def finished(images, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "whole"
    return kc.train(images, model=small_model(), recipe=RECIPE, output=output, class_weights="balanced", quiet=True)


def test_run_folder_holds_all_of_it(finished):
    names = {str(path.relative_to(finished.folder)) for path in finished.folder.rglob("*") if path.is_file()}
    assert {
        "config.json", "classes.txt", "metrics.csv", "train.log", "best.keras", "last.keras", "learning_curves.png",
        "contact_sheet.png", "evaluation/confusion.png", "evaluation/reliability.png", "evaluation/evaluation.json",
        "report.html",
    } <= names  # fmt: skip
    assert not [name for name in names if ".unfinished" in name]
    assert (finished.folder / "classes.txt").read_text().split() == CLASSES
    weights = json.loads((finished.folder / "config.json").read_text())["class_weights"]
    assert weights == pytest.approx([0.75, 1.0, 1.5])
    with (finished.folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {"learning_rate", "loss", "val_loss", "val_accuracy", "images_per_second"} <= rows[0].keys()
    assert list((finished.folder / "tensorboard" / "validation").iterdir())


def test_report_stands_by_itself_and_shows_the_result(finished):
    page = finished.report.read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "src='http" not in page
    assert f"{finished.evaluation.top1:.2%}" in page
    assert "width=device-width" in page


def test_best_model_is_evaluated_as_it_was_in_training(finished, images):
    evaluation = kc.evaluate(finished.folder, images)
    assert evaluation.images == 9
    best = max(finished.history, key=lambda row: row["val_accuracy"])  # the first of equal ones
    assert evaluation.top1 == pytest.approx(best["val_accuracy"], abs=1e-6)
    assert evaluation.loss == pytest.approx(best["val_loss"], rel=1e-4)
    stored = json.loads((finished.folder / "evaluation" / "evaluation.json").read_text())
    assert stored["top1"] == evaluation.top1


def test_images_to_evaluate_on_need_no_others_beside_them(finished, images, tmp_path):
    shutil.copytree(images / "val", tmp_path / "val")
    (tmp_path / "val" / "dark" / "2.png").unlink()
    shutil.rmtree(tmp_path / "val" / "gray")
    (tmp_path / "val" / "gray").mkdir()
    evaluation = kc.evaluate(finished.folder, tmp_path)
    assert evaluation.images == 5
    assert [row["images"] for row in evaluation.per_class] == [2, 0, 3]
    assert evaluation.worst_first[-1]["class"] == "gray"  # of which there is none
    for name in ("dark", "light"):
        shutil.rmtree(tmp_path / "val" / name)
    with pytest.raises(ValueError, match="holds no readable picture"):
        kc.evaluate(finished.folder, tmp_path)


def test_saved_model_knows_its_classes_and_carries_no_optimizer(finished):
    model = keras.saving.load_model(finished.best)
    assert model.class_names == tuple(CLASSES)
    assert not model.compiled


def test_the_same_call_after_the_end_trains_no_further(finished, images):
    before = (finished.folder / "metrics.csv").read_bytes()
    again = kc.train(
        images, model=small_model(), recipe=RECIPE, output=finished.folder, class_weights="balanced", quiet=True
    )
    assert (finished.folder / "metrics.csv").read_bytes() == before
    assert again.history == finished.history


def test_interrupted_run_ends_as_the_whole_one(finished, images, tmp_path, monkeypatch):
    settings = {"recipe": RECIPE, "output": tmp_path / "run", "class_weights": "balanced", "quiet": True}
    write = ResumableState.on_train_batch_end

    def interrupt_in_the_second_epoch(self, batch, logs=None):
        if (self.position.epoch, batch) == (1, 0):
            signal.raise_signal(signal.SIGINT)
        write(self, batch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(ResumableState, "on_train_batch_end", interrupt_in_the_second_epoch)
        with pytest.raises(KeyboardInterrupt, match="goes on from here"):
            kc.train(images, model=small_model(), **settings)
    kc.train(images, model=small_model(), **settings)
    for name in ("best.keras", "last.keras"):
        resumed, whole = (keras.saving.load_model(folder / name) for folder in (tmp_path / "run", finished.folder))
        for one, other in zip(resumed.get_weights(), whole.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_other_settings_for_the_same_folder_are_refused(finished, images):
    recipe = get_recipe("finetune", epochs=3, batch_size=6)
    with pytest.raises(ValueError, match=r"holds another run, which differs in .*recipe"):
        kc.train(images, model=small_model(), recipe=recipe, output=finished.folder, quiet=True)


@pytest.fixture
def handed_over(finished, tmp_path):
    """A copy of the finished run, of which only the state after the first epoch is left."""
    shutil.copytree(finished.folder, tmp_path / "run")
    StateFolder(tmp_path / "run" / "resume").files()[-1].unlink()
    return RunFolder(tmp_path / "run")


def go_on(images, folder):
    return kc.train(
        images, model=small_model(), recipe=RECIPE, output=folder.path, class_weights="balanced", quiet=True
    )


@pytest.mark.parametrize(
    ("callback", "forged"),
    [
        ("MetricsTable-0", {"_path": "precious"}),
        ("MetricsTable-0", {"_logs": "precious"}),
        ("BestModel-0", {"_path": "precious"}),
        ("Progress-0", {"_log": "precious"}),
        ("EvaluateAverages-0", {"overwrite": True}),
    ],
)
def test_a_state_says_nothing_of_where_is_written(callback, forged, handed_over, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "precious").write_text("precious")
    (state,) = StateFolder(handed_over.states).files()
    rewrite(state, lambda facts: facts["callbacks"].setdefault(callback, {}).update(forged))
    with pytest.raises(ValueError, match=f"{state.name}' is damaged: .*{callback}.*remove .* to begin anew"):
        go_on(images, handed_over)
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_run_without_its_settings_is_not_taken_for_one_of_other_images(handed_over, images, tmp_path):
    handed_over.config_file.unlink()
    shutil.copytree(images, tmp_path / "images")
    for split in ("train", "val"):
        (tmp_path / "images" / split / "dark").rename(tmp_path / "images" / split / "black")
    with pytest.raises(ValueError, match=r"config\.json back, or give another folder"):
        kc.train(
            tmp_path / "images", model=tiny(3, depth=((1, 1, 0),)), recipe=RECIPE, output=handed_over.path, quiet=True
        )
    assert handed_over.class_names.read_text().split() == CLASSES


def test_states_of_other_settings_are_told_though_the_settings_beside_them_fit(handed_over, images, tmp_path):
    other = dataclasses.replace(RECIPE, learning_rate=1e-3)
    with RunFolder(tmp_path / "other") as folder:
        folder.claim(plan_training(images, model=small_model(), recipe=other, report=None).settings())
    shutil.copytree(handed_over.states, folder.states)
    with pytest.raises(ValueError, match="other settings or pictures"):
        kc.train(images, model=small_model(), recipe=other, output=folder.path, quiet=True)


def test_another_model_in_the_place_of_the_best_is_told(finished, images, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "run")
    kc.save_checkpoint(tiny(4, depth=((1, 1, 0),)), tmp_path / "run" / "best.keras")
    with pytest.raises(ValueError, match=r"best\.keras' holds another model"):
        go_on(images, RunFolder(tmp_path / "run"))


def test_names_of_figures_are_text_in_the_report(handed_over, finished):
    row = {**finished.history[-1], "<script>accuracy": 0.5}
    write_report(handed_over, [row], None, [("<script>.png", "<script>")])
    page = handed_over.report.read_text()
    assert page.count("&lt;script&gt;") == 4
    assert "<script>" not in page


def test_dry_run_says_steps_decay_and_memory(images):
    text = describe_plan(plan_training(images, model=small_model(), recipe=RECIPE, report=None))
    assert "2 epochs of 3, 6 in all" in text
    assert "momentum 0.375" in text  # of 6 updates; the recipe's 0.99 would keep what the run began with
    assert "left over" not in text  # 18 pictures are three batches of 6
    larger = get_recipe("finetune", batch_size=8)
    text = describe_plan(plan_training(images, model=small_model(), recipe=larger, report=None))
    assert "2 of them left over in each epoch" in text
    assert "none on" in text
    assert "GiB for weights and optimizer" in text
    assert "█" in text


def test_a_run_says_what_it_leaves_out_and_that_nothing_is_held_out(images, tmp_path, capsys):
    shutil.copytree(images / "val", tmp_path / "flat")
    (tmp_path / "flat" / "dark" / "broken.png").write_bytes(b"no picture")
    result = kc.train(
        tmp_path / "flat",
        model=small_model(),
        recipe=dataclasses.replace(RECIPE, epochs=1),
        output=tmp_path / "run",
        max_unreadable=1,
    )
    said = capsys.readouterr().out
    assert "No pictures are held out" in said
    assert "Evaluating" not in said
    assert result.evaluation is None
    with (tmp_path / "run" / "unreadable.csv").open() as file:
        (left_out,) = csv.DictReader(file)
    assert left_out["file"] == str(tmp_path / "flat" / "dark" / "broken.png")
    assert left_out["file"] in result.report.read_text()
    assert list(load_runtime(tmp_path / "run").class_names) == CLASSES


def test_classes_go_by_name(images):
    model = tiny(4, depth=((1, 1, 0),), class_names=["light", "other", "dark", "gray"])
    evaluation = kc.evaluate(model, images)
    assert evaluation.confusion.shape == (3, 3)
    with pytest.raises(ValueError, match="is none of the model's"):
        kc.evaluate(tiny(3, depth=((1, 1, 0),), class_names=["a", "b", "c"]), images)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "imagnet"], "did you mean 'imagenet'"),
        (["--model", "crossvit_8"], "crossvit_8"),
        (["--set", "epochs"], "is not FIELD=VALUE"),
        (["--set", "epoch=3"], "did you mean 'epochs'"),
        (["--batch-size", "1000"], "batch_size 1000"),
        (["--teacher", "nowhere.keras"], "nowhere.keras"),
        (["--checkpoint-every", "5"], "no rhythm"),
    ],
)
def test_mistakes_are_one_line(images, tmp_path, arguments, message, capsys):
    code = cli.main(["train", str(images), "--output", str(tmp_path / "run"), *arguments])
    assert code == cli.EXIT_MISTAKE
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert message in error
