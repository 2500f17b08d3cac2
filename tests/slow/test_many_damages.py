"""More than a thousand damaged files, in every way that bad_data.py knows."""

import pytest
from bad_data import KINDS, World, cases, run_cases

PER_KIND = 150


@pytest.mark.slow
def test_damaged_files_are_named_or_left_out_or_change_nothing(tmp_path):
    world = World(tmp_path / "world")
    counts = run_cases(world, cases(PER_KIND), tmp_path)
    for kind, verdicts in counts.items():
        print(f"{kind}: {len(KINDS[kind][1])} kinds of damage, {dict(verdicts)}")
        assert verdicts.total() == PER_KIND
    print(f"in all: {sum(verdicts.total() for verdicts in counts.values())}")
