"""`keep_freed_memory`, by the pages that the system gives a process."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
from snojoe.support.memory import keep_freed_memory
if {kept}:
    keep_freed_memory()
def take_and_give_back():
    b"x" * 100_000_000
take_and_give_back()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    take_and_give_back()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(kept):
    command = [sys.executable, "-c", FAULTS.format(kept=kept)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it tunes glibc's malloc")
def test_what_is_freed_is_there_when_it_is_asked_for_again():
    assert faults(kept=True) < faults(kept=False) / 5
