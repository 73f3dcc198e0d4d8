"""What is said of several devices before a run begins."""

import pytest

from keras_crossvit.cli import main as cli
from keras_crossvit.training import get_recipe, plan_training
from keras_crossvit.training.distributed import DATA_PARALLEL, MIRRORED, Distribution
from keras_crossvit.training.dry_run import describe_plan
from tests.helpers.distributed import write_images
from tests.helpers.processes import run_python


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--distribute", "horovod"], "use one of mirrored, data-parallel"),
        (["--distribute", "data-parallel"], "set KERAS_BACKEND=jax in the environment, or use distribute 'mirrored'"),
        (["--distribute", "mirrored", "--process-id", "1"], "process_id 1 goes with distribute 'data-parallel' alone"),
        (["--coordinator", "10.0.0.1:1"], "coordinator '10.0.0.1:1' goes with distribute 'data-parallel' alone"),
        (
            ["--distribute", "mirrored", "--batch-size", "8", "--set", "accumulation_steps=2"],
            "accumulation_steps 2 do not go with",
        ),
    ],
)
def test_mistakes_are_one_line(tmp_path, arguments, message, capsys):
    write_images(tmp_path)
    code = cli.main(["train", str(tmp_path / "images"), "--output", str(tmp_path / "run"), *arguments])
    assert code == cli.EXIT_MISTAKE
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert message in error
    assert not (tmp_path / "run").exists()


def test_a_dry_run_counts_the_devices(tmp_path, capsys):
    write_images(tmp_path)
    arguments = ["--dry-run", "--batch-size", "8", "--set", "mixup=0.0"]
    assert cli.main(["train", str(tmp_path / "images"), "--distribute", "mirrored", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "1 device in 1 process (mirrored)" in printed
    assert "a step of 8 pictures on each device" in printed
    plan = plan_training(tmp_path / "images", recipe=get_recipe("finetune", batch_size=8), report=None)
    described = describe_plan(plan, Distribution(MIRRORED, devices=4))
    assert "4 devices in 1 process (mirrored)" in described
    assert "a step of 2 pictures on each device" in described


def test_processes_are_foreseen_and_mistakes_about_them_told_before_they_are_connected():
    program = """
import tensorflow as tf
from keras_crossvit.evaluation.evaluator import evaluate
from keras_crossvit.training.distributed import distributed, foreseen
kept_from = []
tf.config.set_visible_devices = lambda devices, kind: kept_from.append((devices, kind))
try:
    evaluate("nowhere.keras", "nowhere")
except FileNotFoundError:
    print(kept_from)
print(foreseen("data-parallel", coordinator="localhost:1", num_processes=4, process_id=3).describe(), len(kept_from))
for address in (("localhost:1", 2, None), ("localhost", 2, 0), ("localhost:1", 2, 2), ("localhost:1", None, None)):
    try:
        with distributed("data-parallel", **dict(zip(("coordinator", "num_processes", "process_id"), address))):
            print("entered")
    except ValueError as error:
        print(error)
"""
    lines = run_python("-c", program, KERAS_BACKEND="jax", KERAS_DISTRIBUTION_NUM_PROCESSES="4").stdout.splitlines()
    expected = (
        "[([], 'GPU')]",  # TensorFlow leaves them to JAX, in an evaluation too
        "4 devices in 4 processes (data-parallel) 2",
        "process_id is missing",
        "is no address",
        "process_id 2 is not one of 2",
        "process_id is missing",
    )
    for line, start_of_it in zip(lines, expected, strict=True):
        assert start_of_it in line


@pytest.mark.parametrize(("batch_size", "processes"), [(6, 2), (10, 4)])
def test_a_batch_that_cannot_be_shared_names_those_that_can(batch_size, processes):
    recipe = get_recipe("finetune", batch_size=batch_size, mixup=0.8)
    shared = Distribution(DATA_PARALLEL, devices=processes, process_count=processes)
    with pytest.raises(ValueError, match=r"use (4|8) or (8|16)\."):
        shared.check(recipe)
