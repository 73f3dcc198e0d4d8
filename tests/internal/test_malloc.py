import sys

import pytest

from tests.helpers.processes import run_python

_ALLOCATE_AND_FREE = """
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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has mallopt")
def test_reused_memory_causes_no_page_faults():
    accepted, faults_when_kept = run_python("-c", _ALLOCATE_AND_FREE, "keep").stdout.split()
    _, faults = run_python("-c", _ALLOCATE_AND_FREE, "leave").stdout.split()
    assert accepted == "True"
    # 200 MB are 48,828 pages of 4 kB, or fewer where the system hands out larger ones.
    assert int(faults_when_kept) < int(faults) / 3
