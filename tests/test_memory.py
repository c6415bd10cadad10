"""Freed memory stays in the process."""

import subprocess
import sys

import pytest

COUNT = """
import resource, sys
from darts_noise.memory import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
bytearray(1 << 23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    bytearray(1 << 23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc has the settings")
def test_a_block_that_was_freed_needs_no_new_pages():
    faults = [
        int(subprocess.check_output([sys.executable, "-c", COUNT, how])) for how in ("keep", "-")
    ]
    assert faults[0] < faults[1] / 20
