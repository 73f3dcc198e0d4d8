import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from keras_crossvit._internal.native_output import suppress_native_output
from tests.helpers.processes import run_python


def test_native_output_does_not_reach_the_terminal(capfd):
    with suppress_native_output():
        os.write(1, b"a message from C++")
        os.write(2, b"another")
    print("shown afterwards")
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("shown afterwards\n", "")


def test_exceptions_pass_with_the_suppressed_output_and_the_streams_are_restored(capfd):
    def fail():
        os.write(2, b"the converter's own diagnosis")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken") as raised, suppress_native_output():
        fail()
    assert "the converter's own diagnosis" in raised.value.__notes__[0]
    os.write(2, b"seen")
    assert capfd.readouterr().err == "seen"


@pytest.mark.parametrize("command", ["train", "prepare"])
def test_commands_print_nothing_of_tensorflow_on_another_backend(command):
    done = run_python("-m", "keras_crossvit", command, "nowhere", check=False, KERAS_BACKEND="jax")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"keras-crossvit {command}: ")


def test_threads_restore_the_terminal(capfd):
    begun, inside = threading.Event(), threading.Event()

    def first():
        with suppress_native_output():
            begun.set()
            inside.wait(0.5)

    def second():
        begun.wait()
        with suppress_native_output():
            inside.set()
            time.sleep(0.2)

    with ThreadPoolExecutor(2) as pool:
        for each in (pool.submit(first), pool.submit(second)):
            each.result()
    os.write(1, b"seen")
    assert capfd.readouterr().out == "seen"
