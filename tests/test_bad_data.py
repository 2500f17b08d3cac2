"""A seeded sample of damaged files; tests/slow/test_many_damages.py has them all."""

import pytest
from bad_data import KINDS, World, cases, run_cases


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_named_or_left_out_or_change_nothing(world, kind, tmp_path):
    damages = len(KINDS[kind][1])
    counts = run_cases(world, (c for c in cases(damages) if c.kind == kind), tmp_path)
    assert counts[kind].total() == damages
    assert damages >= 5
