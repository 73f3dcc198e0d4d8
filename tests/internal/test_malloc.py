"""Memory that a process keeps for its next step."""

import sys

import pytest

from tests.helpers.processes import run_python

_FREED_AND_TAKEN_AGAIN = """
import resource
import sys
import numpy
from keras_crossvit._internal.malloc import keep_freed_memory
print(keep_freed_memory() if sys.argv[1] == "keep" else None)
def take():
    numpy.ones(50_000_000, "float32").sum()
take()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    take()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library of Linux alone can be told")
def test_memory_that_is_taken_again_needs_no_new_pages():
    told, faults_when_told = run_python("-c", _FREED_AND_TAKEN_AGAIN, "keep").stdout.split()
    _, faults = run_python("-c", _FREED_AND_TAKEN_AGAIN, "leave").stdout.split()
    assert told == "True"
    # 200 MB are 48,828 pages of 4 kB, or fewer where the system hands out larger ones.
    assert int(faults_when_told) < int(faults) / 3
