"""Runs on two JAX processes and on two TensorFlow devices equal those on one device."""

import signal
import socket

import numpy as np
import pytest

from keras_crossvit.cli import main as cli
from keras_crossvit.pipeline import evaluation_batches, open_dataset
from keras_crossvit.training import get_recipe, plan_training
from keras_crossvit.training.distributed import DATA_PARALLEL, MIRRORED, Distribution
from keras_crossvit.training.dry_run import describe_plan
from keras_crossvit.training.state import Position, StateFolder
from tests.helpers.distributed import VALIDATION, start, write_images
from tests.helpers.models import tiny
from tests.helpers.processes import compiled_once, run_python

# Two devices sum a batch in another order. AdamW divides by the size of the gradients, so where they are almost 0, that
# rounding changes a weight by a fraction of the learning rate times the steps.
TOLERANCE = 1e-5
METRICS = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
STEPS = 3  # of an epoch
ON_JAX = {"global_clipnorm": 0.5}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Environment in which processes share what JAX has compiled."""
    return compiled_once(tmp_path_factory.mktemp("compiled"))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run_two(folder, environment, *, of_first=None, of_last=None):
    """Runs both processes; returns exit codes and outputs."""
    common = {"folder": str(folder), "distribute": DATA_PARALLEL, "coordinator": f"127.0.0.1:{free_port()}"}
    common |= {"num_processes": 2, "checkpoint_every": "1steps", "recipe": ON_JAX}
    started = [
        start({**common, "process_id": i, **(own or {})}, backend="jax", **environment)
        for i, own in enumerate((of_first, of_last))
    ]
    outputs = [each.communicate(timeout=300)[0] for each in started]
    return [each.returncode for each in started], outputs


def found_by(name, folder):
    with np.load(folder / f"{name}.npz") as stored:
        return dict(stored)


def assert_same_run(found, expected):
    for name in METRICS:
        np.testing.assert_allclose(found[name], expected[name], rtol=TOLERANCE, err_msg=name)
    for name in expected:
        if name.startswith("weight"):
            np.testing.assert_allclose(found[name], expected[name], atol=TOLERANCE, err_msg=name)


@pytest.fixture(scope="module")
def killed(tmp_path_factory, cache):
    """A run whose second process is killed in the second epoch."""
    folder = tmp_path_factory.mktemp("together")
    write_images(folder)
    codes, outputs = run_two(folder, cache, of_last={"die_after": STEPS + 1})
    return folder, codes, outputs, StateFolder(folder / "run" / "resume").newest().position


@pytest.fixture(scope="module")
def together(killed, cache):
    """The same run, resumed; then on one device."""
    codes, outputs = run_two(killed[0], cache, of_first={"reference": True})
    assert codes == [0, 0], "\n".join(outputs)
    return killed[0], outputs


def test_a_killed_process_stops_the_other_with_a_clear_line(killed):
    _, codes, outputs, position = killed
    assert codes == [cli.EXIT_PROCESS_LOST, -signal.SIGKILL], outputs[0]
    [line] = [line for line in outputs[0].splitlines() if "Process 0 of 2 has lost another" in line]
    assert "Run the same command in every process" in line
    assert position >= Position(1)


def test_two_processes_train_as_one_does_and_end_with_equal_weights(together):
    first, second, one = (found_by(name, together[0]) for name in ("process-0", "process-1", "reference"))
    assert_same_run(first, one)
    for name in first:
        if name not in ("seconds", "images_per_second"):
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_only_the_first_process_writes_and_logs(together):
    folder, outputs = together
    training, evaluation, _ = outputs[0].partition("Evaluating the best model")  # and then it is on one device
    assert evaluation
    assert "Resuming the run" in training
    assert "epoch 2/2" in training
    assert "2 devices in 2 processes" in training
    assert "epoch" not in outputs[1]
    assert "Process 1 waits" in outputs[1]
    log = (folder / "run" / "train.log").read_text()
    assert [log.count(f"epoch {i}/2") for i in (1, 2)] == [1, 1]
    assert (folder / "run" / "report.html").is_file()


def test_two_mirrored_devices_train_as_one_does(tmp_path):
    write_images(tmp_path)
    # Without drop path, because each device has its own masks.
    settings = {"devices": 2, "distribute": MIRRORED, "recipe": {"drop_path_rate": 0.0, "epochs": 1}}
    process = start({"folder": str(tmp_path), "reference": True, **settings}, backend="tensorflow")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert_same_run(found_by("process-0", tmp_path), found_by("reference", tmp_path))


def test_padded_validation_batches_do_not_change_means(tmp_path):
    write_images(tmp_path)
    source = open_dataset(tmp_path / "images")
    config = tiny(3).config
    plain = np.concatenate([target.numpy() for _, target in evaluation_batches(source, config, 8)])
    of_processes = [
        [
            (target.numpy(), weight.numpy())
            for _, target, weight in evaluation_batches(
                source, config, 8, whole_batches=True, process_index=process, process_count=2
            )
        ]
        for process in range(2)
    ]
    joined = [np.concatenate(parts) for batch in zip(*of_processes, strict=True) for parts in zip(*batch, strict=True)]
    targets, weights = np.concatenate(joined[::2]), np.concatenate(joined[1::2])
    assert targets.shape == (16, 3)
    np.testing.assert_array_equal(targets[:VALIDATION], plain)
    np.testing.assert_allclose((targets * weights[:, None]).mean(axis=0), plain.mean(axis=0), rtol=1e-6)
    assert not weights[VALIDATION:].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--distribute", "data-parallel"], "KERAS_BACKEND=jax"),
        (["--distribute", "mirrored", "--process-id", "1"], "process_id 1"),
        (["--coordinator", "10.0.0.1:1"], "coordinator '10.0.0.1:1'"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, arguments, message, capsys):
    write_images(tmp_path)
    code = cli.main(
        ["train", str(tmp_path / "images"), "--weights", "none", "--output", str(tmp_path / "run"), *arguments]
    )
    assert code == cli.EXIT_MISTAKE
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert message in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("field", "value"), [("gradient_accumulation_steps", 2), ("global_clipnorm", 0.5), ("precision", "mixed_float16")]
)
def test_settings_in_which_mirrored_keras_is_wrong_are_refused(field, value):
    recipe = get_recipe("finetune", **{"layer_decay": None, field: value})
    Distribution(DATA_PARALLEL, devices=2).check(recipe)
    with pytest.raises(ValueError, match=f"{field} {value}"):
        Distribution(MIRRORED, devices=2).check(recipe)


@pytest.mark.parametrize(("batch_size", "processes"), [(6, 2), (10, 4)])
def test_a_batch_that_cannot_be_divided_names_those_that_can(batch_size, processes):
    recipe = get_recipe("finetune", batch_size=batch_size, mixup=0.8)
    with pytest.raises(ValueError, match=r"use (4|8) or (8|16)\."):
        Distribution(DATA_PARALLEL, devices=processes, process_count=processes).check(recipe)


def test_a_dry_run_names_the_devices(tmp_path, capsys):
    write_images(tmp_path)
    arguments = ["--dry-run", "--weights", "none", "--batch-size", "8", "--set", "mixup=0.0"]
    assert cli.main(["train", str(tmp_path / "images"), "--distribute", "mirrored", *arguments]) == 0
    assert "1 device in 1 process (mirrored)" in capsys.readouterr().out
    plan = plan_training(tmp_path / "images", weights="none", recipe=get_recipe("finetune", batch_size=8))
    described = describe_plan(plan, Distribution(MIRRORED, devices=4))
    assert "4 devices in 1 process (mirrored)" in described
    assert "2 images" in described.replace("pictures", "images")


def test_processes_are_planned_and_their_mistakes_found_before_one_waits_in_vain():
    waited_for = f"127.0.0.1:{free_port()}"
    program = f"""
import functools
import jax
import tensorflow as tf
from keras_crossvit._internal.log import log_to_stdout
from keras_crossvit.evaluation.evaluator import evaluate
from keras_crossvit.training.distributed import distributed, plan_distribution
hidden = []
tf.config.set_visible_devices = lambda devices, kind: hidden.append((devices, kind))
try:
    evaluate("nowhere.keras", "nowhere")
except FileNotFoundError:
    print(hidden)
plan = plan_distribution("data-parallel", coordinator="localhost:1", num_processes=4, process_id=3)
print(plan.describe(), len(hidden))
for address in (("localhost:1", 2, None), ("localhost", 2, 0), ("localhost:1", 2, 2), ("localhost:1", None, None)):
    try:
        with distributed("data-parallel", **dict(zip(("coordinator", "num_processes", "process_id"), address))):
            print("entered")
    except ValueError as error:
        print(error)
jax.distributed.initialize = functools.partial(jax.distributed.initialize, initialization_timeout=1)
with log_to_stdout(), distributed("data-parallel", coordinator="{waited_for}", num_processes=2, process_id=1):
    print("entered")
"""
    done = run_python("-c", program, check=False, KERAS_BACKEND="jax", KERAS_DISTRIBUTION_NUM_PROCESSES="4")
    assert done.returncode
    expected = (
        "[([], 'GPU')]",  # TensorFlow leaves GPUs to JAX, also in an evaluation
        "4 devices in 4 processes (data-parallel) 2",
        "process_id is missing",
        "'localhost'",
        "process_id 2 is not one of 2",
        "process_id is missing",
        f"Process 1 waits for the others at {waited_for}",
    )
    for line, part in zip(done.stdout.splitlines(), expected, strict=True):
        assert part in line
