import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from keras_crossvit._internal.native_output import suppress_native_output
from tests.helpers.processes import run_python


def test_what_is_written_past_python_is_kept_from_the_terminal(capfd):
    with suppress_native_output():
        os.write(1, b"a note of a library in C++")
        os.write(2, b"another")
    print("what follows is shown")
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("what follows is shown\n", "")


def test_errors_pass_and_the_streams_are_given_back(capfd):
    with pytest.raises(ValueError, match="broken"), suppress_native_output():
        raise ValueError("broken")
    os.write(2, b"seen")
    assert capfd.readouterr().err == "seen"


@pytest.mark.parametrize("command", ["train", "prepare"])
def test_commands_that_bring_tensorflow_to_another_backend_do_not_let_it_speak(command):
    done = run_python("-m", "keras_crossvit", command, "nowhere", check=False, KERAS_BACKEND="jax")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"keras-crossvit {command}: ")


def test_threads_that_silence_at_once_give_the_terminal_back(capfd):
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
