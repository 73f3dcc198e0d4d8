import platform

import pytest

from tests.helpers.processes import run_python

# `-c` in the place of the command's own file, whose name it takes.
_WHAT_IS_TOLD = """
import os, sys
sys.argv[0] = sys.argv[1]
import keras_crossvit
from tensorflow.python.util import _pywrap_util_port
print(os.environ.get("TF_ENABLE_ONEDNN_OPTS"), _pywrap_util_port.IsMklEnabled())
"""


def test_the_command_begins_without_a_word_of_tensorflow():
    done = run_python("-m", "keras_crossvit", "list", TF_CPP_MIN_LOG_LEVEL="")
    assert done.stderr == ""
    assert done.stdout.split()[0] == "paper"  # the table's first word


@pytest.mark.skipif(platform.machine() != "x86_64", reason="TensorFlow has these kernels on x86-64 for certain")
@pytest.mark.parametrize(("given", "told"), [({}, "1 True"), ({"TF_ENABLE_ONEDNN_OPTS": "0"}, "0 False")])
def test_the_command_takes_the_kernels_of_onednn_unless_told_otherwise(given, told, monkeypatch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    assert run_python("-c", _WHAT_IS_TOLD, "bin/keras-crossvit", **given).stdout.strip() == told


def test_a_process_that_imports_the_package_is_told_nothing(monkeypatch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    assert run_python("-c", _WHAT_IS_TOLD, "program.py").stdout.split()[0] == "None"
