"""``snojoe init``: from folders of images to a project that runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from snojoe.data.archives import stem
from snojoe.params import TAKEN, Meaning, load_params
from snojoe.support.errors import SnojoeError
from snojoe.support.files import write_text
from snojoe.support.text import aligned
from snojoe_project.choose import Choice, choose
from snojoe_project.dag import is_project, project_dag
from snojoe_project.look import Look, look
from snojoe_project.originals import PACKAGES, original, read_original
from snojoe_project.parameters import project_params

# Replaced by --force alone. The lines of the others are added where they are missing.
OURS = ("dvc.yaml", "params.yaml")
LISTS = (".gitignore", ".dvcignore")

# Of this repository's .gitignore: the archives lie elsewhere, or are the user's to track.
_NOT_THEIRS = re.compile(r"^(?:# \?\*.*|!?/archives/.*|/\.venv/)\n", re.MULTILINE)
_NO_OOD = (
    "no --ood: the tables need images that show something else, and until you bring some, drawn "
    "textures stand in for them, which are easy to tell from photographs. A folder of what your "
    "detector will meet and shall refuse says more: snojoe init --force with --ood, or data.ood"
)


def init(
    folder: Path,
    labelled: Sequence[Path],
    ood: Sequence[Path],
    *,
    weights: str | None = None,
    sn_layers: Sequence[int] | None = None,
    meanings: Mapping[str, Meaning] | None = None,
    force: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Look at the images, say what is there, and make a project of it in ``folder``.

    A table of labels among ``labelled`` stands for the folder that it lies in. ``sn_layers`` is as
    `choose` takes it.

    Raises
    ------
    SnojoeError
        Before anything is written: if an archive cannot be read, the project would lie in the data,
        or there is a project already and not ``force``.
    """
    folder = folder.resolve()
    tables = [path.name if is_table(path.name) else None for path in labelled]
    labelled = [path.parent if is_table(path.name) else path for path in labelled]
    file = [Path(weights)] if weights and Path(weights).suffix else []
    brought = [_absolute(path) for path in (*labelled, *ood, *file)]
    _check_place(folder, brought, force)
    with tempfile.TemporaryDirectory() as scratch:
        found = look(labelled, ood, Path(scratch), tables=tables, meanings=meanings)
    for line in found.lines:
        say(line)
    start = _common(folder, brought)
    names = [os.path.relpath(path, folder / start) for path in brought]
    choices = choose(found, names[-1] if file else weights, sn_layers)
    sources = [
        {"path": name} | ({"labels": table} if table else {})
        for name, table in zip(names, tables, strict=False)
    ]
    choices += _data(found, start, sources, names[len(labelled) :][: len(ood)])
    if meanings:
        choices.append(Choice("data.label_meanings", dict(meanings), ""))
    text = project_params(choices)
    _write(folder, text, say)
    say("")
    chosen = [
        (name, "(empty)" if value is None else str(value), reason)
        for name, value, reason in choices
        if reason
    ]
    say(aligned(chosen))
    doubts = [*found.doubts, *([] if ood else [_NO_OOD]), *_untracked(folder, start, names)]
    if doubts:
        say("\nlook at this:")
        for doubt in doubts:
            say(f"- {doubt}")
    here = os.path.relpath(folder)
    say(f"\nnext: {'' if here == '.' else f'cd {here} && '}snojoe repro")


def rewrite_dag(folder: Path) -> None:
    """Write a project's ``dvc.yaml`` anew, from its parameters as they are now.

    Raises
    ------
    SnojoeError
        If the parameters are wrong, or there is no ``dvc.yaml`` that `init` made.
    """
    path = folder / "dvc.yaml"
    if not is_project(path):
        raise SnojoeError(f"{path}: not made by `snojoe init`: expected the folder of a project")
    write_text(path, project_dag(load_params(folder / "params.yaml")))


def is_table(name: str) -> bool:
    return name.lower().endswith(".csv")


def _check_place(folder: Path, brought: Iterable[Path], force: bool) -> None:
    if folder == PACKAGES.parent:
        raise SnojoeError(f"{folder}: the program's own folder; expected one for your project")
    for path in brought:
        if not path.exists():
            raise SnojoeError(f"{path}: no such file or folder")
        if folder.is_relative_to(path):
            raise SnojoeError(
                f"{folder}: lies in {path}, which would then change with each result; expected a "
                f"folder outside of it, such as snojoe init {os.path.relpath(path.parent)}/"
                f"{stem(path)}-project"
            )
    there = [name for name in OURS if (folder / name).exists()]
    if there and not force:
        raise SnojoeError(
            f"{folder}: {' and '.join(there)} there already: nothing was changed; --force replaces "
            f"{'it' if len(there) == 1 else 'them'}, or name another folder"
        )


def _absolute(path: Path) -> Path:
    """Without ``..``, whose meaning changes where a link is followed; links keep their names."""
    return path.parent.resolve() / path.name if path.name not in ("", "..") else path.resolve()


def _common(folder: Path, brought: Sequence[Path]) -> str:
    """``data.folder``: relative where all data lie in the project, else absolute."""
    common = os.path.commonpath([path.parent for path in brought])
    inside = all(path.is_relative_to(folder) for path in brought)
    return os.path.relpath(common, folder) if inside else common


def _data(
    found: Look, start: str, labelled: Sequence[dict[str, str]], ood: Sequence[str]
) -> list[Choice]:
    sets: dict[str, dict[str, Any]] = {}
    for path in ood:
        sets[_set_name(path, sets)] = {"path": path}
    choices = [
        Choice("data.folder", start, ""),
        Choice("data.id", list(labelled), ""),
        Choice("data.ood", sets or {"textures": {"embedded": "textures"}}, ""),
        Choice("data.splits", found.splits, ""),
    ]
    if not sets:
        count = min(1000, max(200, found.test))
        choices.append(Choice("data.digits.ood", count, "Textures, drawn as OOD images."))
        choices += [Choice(f"data.digits.{split}", 20, "") for split in ("train", "val", "test")]
    return choices


def _set_name(path: str, taken: Iterable[str]) -> str:
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", stem(Path(path))).lstrip("_-") or "other"
    names = {*taken, *TAKEN}
    return next(n for n in (name, *(f"{name}_{i}" for i in range(2, 10**6))) if n not in names)


def _write(folder: Path, params: str, say: Callable[[str], None]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        draft = Path(scratch) / "params.yaml"
        write_text(draft, params)
        dag = project_dag(load_params(draft))
    within = _succeeds(folder, "git", "rev-parse", "--is-inside-work-tree")
    fresh = not within or _succeeds(folder, "git", "check-ignore", "--quiet", ".")
    if fresh:
        _run(folder, "git", "init", "--quiet")
    if not (folder / ".dvc").exists():
        root = subprocess.run(
            ["git", "rev-parse", "--show-prefix"],
            cwd=folder, check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip
        _run(
            folder, sys.executable, "-m", "dvc", "init", "--quiet", *(["--subdir"] if root else [])
        )
        shutil.copyfile(original(".dvc/config"), folder / ".dvc/config")
    for name, text in (("dvc.yaml", dag), ("params.yaml", params)):
        write_text(folder / name, text)
    for name, text in (
        (".gitignore", _NOT_THEIRS.sub("", read_original(".gitignore"))),
        (".dvcignore", read_original(".dvcignore")),
    ):
        _add_lines(folder / name, text)
    plots = original(".dvc/plots")
    (folder / ".dvc/plots").mkdir(exist_ok=True)
    for template in plots.glob("*.json"):
        if not (folder / ".dvc/plots" / template.name).exists():
            shutil.copyfile(template, folder / ".dvc/plots" / template.name)
    say(f"\n{folder}: wrote dvc.yaml, params.yaml, .gitignore, .dvcignore and .dvc")
    made = [*OURS, *LISTS, ".dvc"]
    _run(folder, "git", "add", *made)
    if not fresh or not _succeeds(
        folder, "git", "commit", "--quiet", "--message", "A project of SNoJoE"
    ):
        say("git: these files are staged; `git commit` them, since dvc exp run needs a commit")


def _add_lines(path: Path, text: str) -> None:
    """Write a file, or add the lines that it lacks: what stands in it stays."""
    there = path.read_text(encoding="utf-8") if path.exists() else ""
    lacking = [line for line in text.splitlines() if line not in there.splitlines()]
    if not there:
        write_text(path, text)
    elif any(line and not line.startswith("#") for line in lacking):
        write_text(path, there.rstrip("\n") + "\n\n" + "\n".join(lacking).strip("\n") + "\n")


def _untracked(folder: Path, start: str, names: Sequence[str]) -> list[str]:
    if Path(start).is_absolute():
        return []
    paths = [str(Path(start, name)) for name in names]
    unknown = [
        path for path in paths
        if not (folder / f"{path}.dvc").exists()
        and not _succeeds(folder, "git", "ls-files", "--error-unmatch", path)
    ]  # fmt: skip
    if not unknown:
        return []
    return [
        "queued experiments and clones have only what git or DVC tracks: dvc add "
        f"{' '.join(unknown)} && git add . && git commit -m data"
    ]


def _run(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SnojoeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")


def _succeeds(folder: Path, *command: str) -> bool:
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    return done.returncode == 0
