import platform

import pytest

from tests.helpers.processes import run_python

_COMMAND = """
import sys
import keras_crossvit.cli.main as command
command.main = lambda: 0
try:
    command.run_and_exit()
except SystemExit:
    pass
"""
_SHOW = """
import os
from tensorflow.python.util import _pywrap_util_port
print(os.environ.get("TF_ENABLE_ONEDNN_OPTS"), _pywrap_util_port.IsMklEnabled())
"""


def test_a_command_prints_nothing_of_tensorflow_s_start(monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    done = run_python("-m", "keras_crossvit", "summary", "crossvit_9_dagger")
    assert done.stderr == ""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="TensorFlow has these kernels on x86-64 for certain")
@pytest.mark.parametrize(("given", "expected"), [({}, "1 True"), ({"TF_ENABLE_ONEDNN_OPTS": "0"}, "0 False")])
def test_the_command_turns_on_onednn_unless_told_otherwise(given, expected, monkeypatch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    assert run_python("-c", _COMMAND + _SHOW, **given).stdout.strip() == expected


def test_importing_the_package_changes_no_environment_and_imports_no_keras(monkeypatch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    program = "import os, sys, keras_crossvit; print('TF_ENABLE_ONEDNN_OPTS' in os.environ, 'keras' in sys.modules)"
    assert run_python("-c", program).stdout.strip() == "False False"
