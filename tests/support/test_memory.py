"""`tune_memory`, by the pages that the system gives a process, and by Python's collections."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
from snojoe.support.memory import tune_memory
if {kept}:
    tune_memory()
def take_and_give_back():
    b"x" * 100_000_000
take_and_give_back()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    take_and_give_back()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def printed(code, kept):
    command = [sys.executable, "-c", code.format(kept=kept)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it tunes glibc's malloc")
def test_what_is_freed_is_there_when_it_is_asked_for_again():
    assert printed(FAULTS, kept=True) < printed(FAULTS, kept=False) / 5


COLLECTIONS = """
import gc
from snojoe.support.memory import tune_memory
if {kept}:
    tune_memory()
before = sum(generation["collections"] for generation in gc.get_stats())
held = [[] for _ in range(50_000)]
print(sum(generation["collections"] for generation in gc.get_stats()) - before)
"""


def test_what_is_held_is_not_looked_through_again_and_again():
    assert printed(COLLECTIONS, kept=True) == 0
    assert printed(COLLECTIONS, kept=False) > 0
