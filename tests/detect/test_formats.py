import csv
import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from snojoe.data.images import ImageError
from snojoe.detect.formats import FORMATS, write_table
from snojoe.model.decision import Decision

OTHER = Decision(["cat"], -1.5, np.array([0.5]), calibration=np.arange(-9.0, 0), score="knn")
DECISION = Decision(["cat", "dog"], 1.0, np.array([0.5, 0.5]), calibration=np.arange(1.0, 10))
SEEN, UNSEEN = DECISION(np.array([[[2.0, 1.0], [-9.0, -8.0]]]))
RESULTS = [("a.jpg", SEEN), ("longer.jpg", UNSEEN), ("c, d.jpg", ImageError("empty"))]


@pytest.fixture(autouse=True)
def now(monkeypatch):
    monkeypatch.setattr("snojoe.detect.formats._now", lambda: "2026-11-26T23:59:59Z")


def written(name, results=RESULTS):
    out = io.StringIO()
    FORMATS[name](iter(results), DECISION, out)
    return out.getvalue()


def test_the_table():
    assert written("table").splitlines() == [
        "image       decision  energy  p      labels              energy from",
        "a.jpg       in        3.44    0.400  cat 0.88, dog 0.73  cat 62%, dog 38%",
        "longer.jpg  OUT       0.00    0.100  -                   dog 73%, cat 27%",
        "c, d.jpg    error     empty",
    ]


def test_the_score_that_decides_is_shown_by_its_name():
    found = OTHER(np.array([[[2.0], [-9.0]]]), scores=np.array([[-2.0, -1.25]]))
    results = [("a.jpg", found[0]), ("b.jpg", found[1]), ("c.jpg", ImageError("empty"))]
    out = io.StringIO()
    write_table(iter(results), OTHER, out)
    assert out.getvalue().splitlines() == [
        "image  decision  knn    energy  p      labels    energy from",
        "a.jpg  OUT       -2     2.13    0.900  cat 0.88  cat 100%",
        "b.jpg  in        -1.25  0.00    0.900  -         cat 100%",
        "c.jpg  error     empty",
    ]
    out = io.StringIO()
    FORMATS["jsonl"](iter(results), OTHER, out)
    first = json.loads(out.getvalue().splitlines()[0])
    assert (first["score_name"], first["score"], first["tau"]) == ("knn", -2.0, -1.5)
    assert first["energy"] == pytest.approx(2.126928)


def test_the_energy_is_the_score_unless_another_is_asked_for():
    assert SEEN.score == SEEN.energy
    row = next(csv.DictReader(io.StringIO(written("csv"))))
    assert (row["score_name"], row["score"]) == ("joint_energy", row["energy"])


def test_columns_do_not_shift_below_the_first_rows():
    rows = [("a.jpg", SEEN)] * 20 + [("much longer than the others.jpg", UNSEEN), ("b.jpg", SEEN)]
    *_, long, last = written("table", rows).splitlines()
    assert long.index("OUT") == last.index("in ") == len("a.jpg  ")
    assert long.startswith("much…  OUT")
    out = io.StringIO()
    write_table(iter(rows), DECISION, out, names=[name for name, _ in rows])
    *_, long, last = out.getvalue().splitlines()
    assert long.startswith("much longer than the others.jpg  OUT")
    assert long.index("OUT") == last.index("in ")


def test_csv_has_booleans_for_pandas():
    frame = pd.read_csv(io.StringIO(written("csv")))
    assert frame.in_distribution.dtype == bool
    assert frame[frame.in_distribution].image.tolist() == ["a.jpg"]


def test_the_spread_is_in_the_table_of_several_models():
    (found,) = DECISION(np.array([[[2.0, 1.0]], [[1.0, 1.0]]]))
    assert "3.03 ± 0.58" in written("table", [("a.jpg", found)])


def test_a_name_cannot_command_the_terminal():
    assert "'\\x1b[2J\\n.jpg'" in written("table", [("\x1b[2J\n.jpg", SEEN)])


def test_csv_and_json_hold_the_same():
    objects = json.loads(written("json"))
    assert [json.loads(line) for line in written("jsonl").splitlines()] == objects
    rows = list(csv.DictReader(io.StringIO(written("csv"))))
    assert [row["image"] for row in rows] == [o["image"] for o in objects]
    seen, unseen, bad = objects
    assert seen["labels"] == ["cat", "dog"]
    assert rows[0]["labels"] == "cat;dog"
    assert [row["in_distribution"] for row in rows] == ["true", "false", "false"]
    assert (seen["in_distribution"], unseen["in_distribution"]) == (True, False)
    assert {"image": "c, d.jpg", "error": "empty"}.items() <= bad.items()
    assert rows[2]["error"] == "empty"
    assert float(rows[0]["p(dog)"]) == seen["probabilities"]["dog"] == pytest.approx(0.731059)
    assert float(rows[0]["share(dog)"]) == seen["contributions"]["dog"]
    assert float(rows[0]["tau"]) == seen["tau"] == 1.0
    assert float(rows[0]["p_value"]) == seen["p_value"] == 0.4


@pytest.mark.parametrize("flagged", [0, 2, 8])
def test_a_line_of_a_log_says_when_by_which_rule_and_what_is_flagged(flagged):
    rule = replace(DECISION, tau=DECISION.calibration[flagged] - 1e-9)
    energies = np.arange(0.25, 10, 0.5)
    found = rule(np.zeros((1, 20, 2)), energies[None])
    out = io.StringIO()
    FORMATS["jsonl"](iter([("a.jpg", each) for each in found]), rule, out)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert {line["time"] for line in lines} == {"2026-11-26T23:59:59Z"}
    assert {line["calibration_images"] for line in lines} == {9}
    assert {line["alpha"] for line in lines} == {(flagged + 1) / 10}
    assert [line["p_value"] <= line["alpha"] for line in lines] == [
        not line["in_distribution"] for line in lines
    ]


def test_the_name_of_a_detector_is_that_of_all_that_decides():
    def named(decision):
        out = io.StringIO()
        FORMATS["json"](iter([("a.jpg", SEEN)]), decision, out)
        return json.loads(out.getvalue())[0]["detector"]

    others = [{"tau": 2.0}, {"classes": ["cat", "cow"]}, {"calibration": np.arange(2.0, 11)}]
    others += [{"score": "knn"}, {}]
    names = [named(replace(DECISION, **other)) for other in others]
    assert len({*names}) == 5
    assert named(DECISION) == names[-1]


def test_nothing_is_an_empty_list():
    assert json.loads(written("json", [])) == []
    assert written("jsonl", []) == ""


@pytest.mark.parametrize("name", FORMATS)
def test_results_are_written_as_they_come(name):
    out = io.StringIO()
    lengths = []

    def endless():
        for _ in range(40):
            lengths.append(len(out.getvalue()))
            yield "a.jpg", SEEN

    FORMATS[name](endless(), DECISION, out)
    assert 0 < lengths[20] < lengths[39]
