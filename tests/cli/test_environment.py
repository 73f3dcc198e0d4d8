import platform

import pytest

from tests.helpers.processes import run_python

_SUMMARY = """
import gc
import os
import sys
import keras_crossvit.cli.main as command
sys.argv = ["keras-crossvit", "summary", "crossvit_9_dagger"]
try:
    command.run_and_exit()
except SystemExit:
    pass
from tensorflow.python.util import _pywrap_util_port
print("collects garbage:", gc.isenabled(), "and searches all objects:", gc.get_freeze_count() < 100_000)
print(os.environ.get("TF_ENABLE_ONEDNN_OPTS"), _pywrap_util_port.IsMklEnabled())
"""


@pytest.mark.parametrize(("given", "expected"), [({}, "1 True"), ({"TF_ENABLE_ONEDNN_OPTS": "0"}, "0 False")])
def test_a_command_turns_on_onednn_unless_told_otherwise_and_prints_nothing_of_tensorflow(given, expected, monkeypatch):
    for name in ("TF_ENABLE_ONEDNN_OPTS", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    done = run_python("-c", _SUMMARY, **given)
    assert done.stdout.splitlines()[-2] == "collects garbage: True and searches all objects: False"
    if platform.machine() == "x86_64":  # where TensorFlow has these kernels for certain
        assert done.stdout.splitlines()[-1] == expected
    assert done.stderr == ""


def test_importing_the_package_changes_no_environment_and_imports_no_keras(monkeypatch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    program = "import os, sys, keras_crossvit; print('TF_ENABLE_ONEDNN_OPTS' in os.environ, 'keras' in sys.modules)"
    assert run_python("-c", program).stdout.strip() == "False False"
