"""Logs of detect, and what is said to have drifted in them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from committed import committed
from conftest import jpeg, model_folder, write_folder
from PIL import Image

from snojoe.cli import main
from snojoe.detect.drift import describe, find_drift, read_log
from snojoe.support.errors import SnojoeError

ROOT = Path(__file__).parents[2]
N, RANK = 199, 10


def line(day, below, labels=(), **changes):
    record = {
        "image": "a.jpg",
        "error": None,
        "p_value": round((1 + below) / (N + 1), 6),
        "labels": list(labels),
        "time": f"{day}T23:59:59Z",
        "detector": "d",
        "calibration_images": N,
        "alpha": RANK / (N + 1),
    }
    return json.dumps(record | changes)


def day_of(day, shift=0.0, images=150, dogs=0.2, seed=0):
    """Lines of a day on which scores are lower by so many standard deviations."""
    rng = np.random.default_rng(seed)
    calibration = np.sort(np.random.default_rng(99).normal(size=N))
    below = np.searchsorted(calibration, rng.normal(-shift, 1, images))
    seen = rng.random(images) < dogs
    return [line(day, int(b), ["dog"] * int(s) + ["cat"]) for b, s in zip(below, seen, strict=True)]


def written(path, lines):
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def fine(tmp_path):
    lines = [each for day in (1, 2, 3) for each in day_of(f"2026-11-0{day}", seed=day)]
    return written(tmp_path / "fine.jsonl", lines)


def test_nothing_has_drifted(fine):
    drift = find_drift(read_log([fine]))
    assert drift.found == []
    assert [(day.date, day.images) for day in drift.days] == [
        (f"2026-11-0{day}", 150) for day in (1, 2, 3)
    ]
    assert all(day.low <= day.flagged <= day.high for day in drift.days)


def test_the_day_that_has_is_named(fine, tmp_path):
    late = written(tmp_path / "late.jsonl", day_of("2026-11-04", 1.0))
    drift = find_drift(read_log([late, fine]))
    assert drift.found == ["share flagged on 2026-11-04", "p-values of 2026-11-04"]
    assert [day.date for day in drift.days][-1] == "2026-11-04"
    assert drift.days[-1].flagged > drift.days[-1].high


def test_a_label_that_is_seen_more_often_is_named(fine, tmp_path):
    reference = read_log(
        [written(tmp_path / "val.jsonl", day_of("2026-10-01", seed=7, images=300))]
    )
    assert find_drift(read_log([fine]), reference).found == []
    more = read_log([written(tmp_path / "more.jsonl", day_of("2026-11-05", seed=8, dogs=0.5))])
    drift = find_drift(more, reference)
    assert drift.found == ["label dog"]
    assert [label.name for label in drift.labels] == ["cat", "dog"]


def test_all_that_is_tested_is_corrected_together(fine, tmp_path):
    alone = find_drift(read_log([fine])).days[0]
    many = [each for day in range(10, 30) for each in day_of(f"2026-11-{day}", seed=day)]
    beside = find_drift(read_log([fine, written(tmp_path / "many.jsonl", many)])).days[0]
    assert beside.flagged == alone.flagged
    assert beside.uniformity_p >= alone.uniformity_p
    assert find_drift(read_log([fine]), level=1.0).found


def test_a_day_is_one_of_the_log_and_of_utc(tmp_path):
    lines = [line("2026-11-01", 5), line("2026-11-01", 5, time="2026-11-02T00:00:00Z")]
    log = read_log([written(tmp_path / "a.jsonl", lines)])
    assert log.days == {"2026-11-01": [5], "2026-11-02": [5]}


def test_a_list_is_read_as_lines_are(tmp_path):
    (tmp_path / "a.json").write_text("[" + ",".join([line("2026-11-01", 5)] * 2) + "]")
    assert read_log([tmp_path / "a.json"]).days == {"2026-11-01": [5, 5]}


def test_what_is_being_written_or_could_not_be_read_is_counted(tmp_path, capsys):
    error = json.dumps({"image": "b.jpg", "error": "empty", "time": "2026-11-01T00:00:00Z"})
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([line("2026-11-01", 50), error, line("2026-11-01", 5)[:40]]))
    assert main(["drift", str(path)]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("1 image on 1 day by detector d, calibrated on 199: ")
    assert captured.err.splitlines() == [
        "1 image could not be read, and took no part",
        "1 last line without an end, left out",
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["nothing"], "a.jsonl, line 1: not JSON"),
        (["[1]\n", "x"], "a.jsonl: not readable as JSON"),
        (["3"], "a.jsonl, line 1: expected what `snojoe detect --format jsonl`"),
        (['{"error": null, "p_value": 0.5}'], "it has no time, detector, calibration_images"),
        ([line("2026-11-01", 5), line("yesterday", 5)], "line 2: not a line of a log"),
        ([line("2026-11-01", 500)], r"line 1: not a line of a log \(a share out of range\)"),
        ([line("2026-11-01", 5, p_value="x")], "line 1: not a line of a log"),
        (
            [line("2026-11-01", 5), line("2026-11-01", 5, detector="e")],
            r"line 2: by detector e, and .*line 1 by d",
        ),
        (['{"error": "empty"}'], "a.jsonl: no image that could be read"),
    ],
)
def test_what_is_no_log_is_said_with_its_place(tmp_path, lines, message):
    path = written(tmp_path / "a.jsonl", lines)
    with pytest.raises(SnojoeError, match=message):
        read_log([path])


def test_a_reference_of_another_detector_is_refused(fine, tmp_path):
    other = written(tmp_path / "val.jsonl", [line("2026-10-01", 5, detector="e")])
    with pytest.raises(SnojoeError, match="the reference is by detector e, the log by d"):
        find_drift(read_log([fine]), read_log([other]))


def test_what_is_printed(fine, tmp_path, capsys):
    late = written(tmp_path / "late.jsonl", day_of("2026-11-04", 1.0, dogs=0.6))
    reference = written(tmp_path / "val.jsonl", day_of("2026-10-01", seed=7, images=300))
    picture = tmp_path / "new/drift.png"
    command = ["drift", str(late), "--reference", str(reference), "--plot", str(picture)]
    assert main(command) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "150 images on 1 day by detector d, calibrated on 199: it flags 5.0% of images like those"
    )
    assert lines[1].split() == ["day", "images", "flagged", "promised", "p", "distance", "p"]
    assert lines[2].startswith("2026-11-04  150     ")
    assert lines[2].count("<0.001*") == 2
    assert lines[4].startswith("dog ")
    assert lines[-1] == ("drift: share flagged on 2026-11-04, p-values of 2026-11-04, label dog")
    with Image.open(picture) as drawn:
        assert drawn.format == "PNG"
    first = picture.read_bytes()
    main(command)
    assert picture.read_bytes() == first
    capsys.readouterr()
    assert main(["drift", str(fine)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "no drift"
    assert main(["drift", str(tmp_path / "gone")]) == 2
    assert "gone: not readable (No such file or directory)" in capsys.readouterr().err


def test_a_name_cannot_command_the_terminal(tmp_path):
    reference = read_log([written(tmp_path / "val.jsonl", [line("2026-10-01", 5)] * 50)])
    log = read_log([written(tmp_path / "a.jsonl", [line("2026-11-01", 50, ["\x1b[2J"])] * 50)])
    assert all("\x1b" not in said for said in describe(find_drift(log, reference)))


def test_logs_of_detect_are_enough(tmp_path, monkeypatch, capsys):
    """By an untrained model, whose val energies are made up."""
    monkeypatch.chdir(tmp_path)
    model_folder(tmp_path / "model")
    write_folder(tmp_path / "images", {f"{seed}.jpg": jpeg(seed) for seed in range(5)})
    monkeypatch.setattr("snojoe.detect.formats._now", lambda: "2026-11-26T00:00:00Z")
    for format_ in ("jsonl", "json"):
        main(["detect", "images", "--model", "model", "--format", format_])
        (tmp_path / "log").write_text(capsys.readouterr().out)
        assert main(["drift", "log", "--reference", "log"]) in (0, 1)
        said = capsys.readouterr().out
        assert said.startswith("5 images on 1 day by detector ")
        assert "\n2026-11-26  5 " in said


def test_drift_needs_no_torch(fine):
    code = (
        "import sys; from snojoe.cli import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "drift", str(fine)], text=True, capture_output=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"


def test_what_the_guide_says_to_type_works(tmp_path):
    """Of its page and of its drift, as a shell runs it."""
    guide = (ROOT / "docs/detector.md").read_text(encoding="utf-8")
    _, about_time = guide.split("## Over time")
    commands = [
        each for each in guide.splitlines() if each.startswith("snojoe detect holiday --ht")
    ]
    commands += about_time.split("```sh\n")[1].split("```")[0].splitlines()
    assert len(commands) == 4
    (tmp_path / "params.yaml").write_text(committed("params.yaml"))
    for seed in range(3):
        model_folder(tmp_path / f"models/sn9/seed{seed}", seed)
    for name in ("holiday", "incoming", "good"):
        write_folder(tmp_path / name, {f"{seed}.jpg": jpeg(seed) for seed in range(5)})
    code = "from snojoe.cli import main; raise SystemExit(main())"
    called = f"""snojoe() {{ "{sys.executable}" -c '{code}' "$@"; (( $? < 2 )) || exit 2; }}"""
    done = subprocess.run(
        ["bash", "-c", "\n".join([called, *commands])], cwd=tmp_path, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert "\n5 images on 1 day by detector " in done.stdout
    made = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert made == {"params.yaml", "page.html", "log.jsonl", "reference.jsonl", "drift.png"}
