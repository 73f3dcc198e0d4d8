"""Runs on several devices: two processes on JAX, two devices of one process on TensorFlow, each beside one device."""

import signal
import socket

import numpy as np
import pytest

from keras_crossvit.cli import main as cli
from keras_crossvit.pipeline import evaluation_batches, open_dataset
from keras_crossvit.training.distributed import DATA_PARALLEL, MIRRORED
from keras_crossvit.training.state import Position, StateFolder
from tests.helpers.distributed import VALIDATION, start, write_images
from tests.helpers.models import tiny
from tests.helpers.processes import compiled_once, run_python

# Sums over a batch are taken in another order by two devices. AdamW divides by the gradients' own size: where they are
# all but zero, the rounding of a sum shows in the weight, by a part of the learning rate times the steps.
FIGURES, WEIGHTS = 1e-5, 1e-5
FIGURE_NAMES = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
# With the running mean of the weights and the drop-path of the recipe "finetune".
ON_JAX = {"clip_norm": 0.5}
STEPS = 3  # of an epoch


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Environment in which the second process need not compile what the first has compiled."""
    return compiled_once(tmp_path_factory.mktemp("compiled"))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def new_folder(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp(name)
    write_images(folder)
    return folder


def run_two(folder, environment, **of_last):
    """Runs both processes; exit codes and outputs by process."""
    common = {"folder": str(folder), "distribute": DATA_PARALLEL, "coordinator": f"127.0.0.1:{free_port()}"}
    common |= {"num_processes": 2, "checkpoint_every": "1steps", "recipe": ON_JAX}
    started = [
        start({**common, "process_id": i, **(of_last if i == 1 else {})}, backend="jax", **environment)
        for i in range(2)
    ]
    outputs = [each.communicate(timeout=300)[0] for each in started]
    return [each.returncode for each in started], outputs


def run_one(folder, *, backend, **settings):
    environment = settings.pop("environment", {})
    process = start({"folder": str(folder), **settings}, backend=backend, **environment)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return found_by(folder, 0)


def found_by(folder, process):
    with np.load(folder / f"process-{process}.npz") as stored:
        return dict(stored)


def assert_same_run(found, expected):
    for name in FIGURE_NAMES:
        np.testing.assert_allclose(found[name], expected[name], rtol=FIGURES, err_msg=name)
    for name in expected:
        if name.startswith("weight"):
            np.testing.assert_allclose(found[name], expected[name], atol=WEIGHTS, err_msg=name)


@pytest.fixture(scope="module")
def killed(tmp_path_factory, cache):
    """A run whose second process is killed in the second epoch."""
    folder = new_folder(tmp_path_factory, "together")
    codes, outputs = run_two(folder, cache, die_after=STEPS + 1)
    return folder, codes, outputs, StateFolder(folder / "run" / "resume").newest()[0]


@pytest.fixture(scope="module")
def together(killed, cache):
    """The same, after the same commands."""
    folder, *_ = killed
    codes, outputs = run_two(folder, cache)
    assert codes == [0, 0], "\n".join(outputs)
    return folder, outputs


def test_a_killed_process_stops_the_other_with_a_clear_line(killed):
    _, codes, outputs, position = killed
    assert codes == [cli.EXIT_PROCESS_LOST, -signal.SIGKILL], outputs[0]
    [line] = [line for line in outputs[0].splitlines() if "process 0 of 2 has lost another" in line]
    assert "the same command in each of the 2 processes goes on" in line
    assert position >= Position(1)


def test_the_same_commands_go_on(together):
    assert "Going on with the run" in together[1][0]


def test_two_processes_train_as_one_does(together, tmp_path_factory, cache):
    without_distribution = run_one(
        new_folder(tmp_path_factory, "alone"), backend="jax", environment=cache, recipe=ON_JAX
    )
    assert_same_run(found_by(together[0], 0), without_distribution)


def test_both_processes_end_with_the_same_weights_and_figures(together):
    first, second = (found_by(together[0], process) for process in range(2))
    for name in first:
        if name not in ("seconds", "images_per_second"):
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_first_process_alone_writes_and_prints(together):
    folder, outputs = together
    assert "epoch 2/2" in outputs[0]
    assert "2 devices in 2 processes" in outputs[0]
    assert "epoch" not in outputs[1]
    log = (folder / "run" / "train.log").read_text()
    assert [log.count(f"epoch {i}/2") for i in (1, 2)] == [1, 1]
    assert (folder / "run" / "report.html").is_file()


def test_two_devices_train_and_clip_as_one_does(tmp_path_factory):
    # The norm is such that every step is clipped. Each device draws the drop-path of its own rows.
    recipe = {"clip_norm": 0.01, "drop_path_rate": 0.0, "epochs": 1}
    settings = {"backend": "tensorflow", "recipe": recipe}
    without_distribution = run_one(new_folder(tmp_path_factory, "one"), **settings)
    mirrored = run_one(new_folder(tmp_path_factory, "two"), devices=2, distribute=MIRRORED, **settings)
    assert_same_run(mirrored, without_distribution)


def test_weights_of_a_filled_up_batch_leave_means_as_they_are(tmp_path):
    write_images(tmp_path)
    source = open_dataset(tmp_path / "images")
    config = tiny(3, depth=((1, 1, 0),)).config
    plain = [target.numpy() for _, target in evaluation_batches(source, config, 8)]
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
    np.testing.assert_array_equal(targets[:VALIDATION], np.concatenate(plain))
    np.testing.assert_allclose((targets * weights[:, None]).mean(axis=0), np.concatenate(plain).mean(axis=0), rtol=1e-6)
    assert not weights[VALIDATION:].any()


def test_processes_that_do_not_meet_are_told_so():
    program = f"""
from keras_crossvit.training import distributed
distributed.START_TIMEOUT = 1
with distributed.distributed("data-parallel", coordinator="127.0.0.1:{free_port()}", num_processes=2, process_id=1):
    print("entered")
"""
    done = run_python("-c", program, check=False, KERAS_BACKEND="jax")
    assert done.returncode
    assert "entered" not in done.stdout
    assert "did not find the others" in done.stderr.strip().splitlines()[-1]


def test_last_words_are_said_by_the_killed_alone():
    program = """
import os, signal, sys
from keras_crossvit.training.last_words import last_words
with last_words() as settle:
    settle("not these")
    settle("farewell")
    if sys.argv[1] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = run_python("-c", program, "killed", check=False)
    assert killed.stderr.splitlines()[-1] == "farewell"
    assert "not these" not in killed.stderr
    assert "farewell" not in run_python("-c", program, "ended").stderr
