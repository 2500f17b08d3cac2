"""The ``dvc.yaml`` of this repository as that of a project.

What differs: the code is a listing of digests (`snojoe_project.code`), since DVC cannot follow an
installed package; what the user brings is named piece by piece, so that whatever else lies
beside it is neither hashed nor a reason to run anything; and there are as many depths of spectral
normalisation as ``ablation.sn_layers`` has. DVC cannot unroll a list inside of a list: they are
spelt out. Of one depth there is no Table 3, and no stage that makes it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from snojoe.model.weights import weights_suffix
from snojoe.params import Params
from snojoe.support.errors import SnojoeError
from snojoe_project.originals import read_original

CODE = "code"
"""The stage that looks at the package, and the folder that it writes."""

READS_DATA = ("download", "preprocess")
"""The stages that read what the user brings."""

_WEIGHTS = "model.weights"  # which download copies, as the code of a network of one's own
_NETWORK = "model.own.network"  # <file>:<function>

_HEAD = """\
# SNoJoE on data of one's own, made by `snojoe init`. The code is the installed package.
#
# code -> download -> preprocess -> train@{sn_layers}-{seed} -> infer_id, infer_ood@{sn_layers}
# -> score, and ablate where depths are compared -> report
#
# code runs each time. code/train, say, lists the modules that train can run, with a digest of each:
# another version of the package, or an edit, runs what it can change, and nothing else.
#
# What you bring under data.id, data.ood, data.outliers and model.weights is named one by one in the
# deps of download and preprocess, and each of ablation.sn_layers in the matrix. After another set
# or depth `snojoe dag` writes this file anew.
stages:
  code:
    cmd: python -m snojoe_project code
    always_changed: true
    outs:
      - code: {cache: false}

"""
_FOLDER = '"${data.folder}"'
_STAGE = re.compile(r"^  (\w+):\n(.*?)(?=^  \w+:\n|^\S|\Z)", re.DOTALL | re.MULTILINE)
_DEPS = re.compile(r"deps:\n      \[(.*?)\]\n", re.DOTALL)
_MATRIX = re.compile(r"(      sn_layers: &depths )\[(.*?)\]\n", re.DOTALL)
_DEPTH = re.compile(r"(?<=\$\{ablation\.sn_layers\[)(\d+)(?=\]\})")
_OF_TABLE_3 = "ablate"
_PLOT_OF_TABLE_3 = re.compile(r"^  - .*\bablation\.csv\b.*\n.*\n", re.MULTILINE)
_WIDTH = 98


def project_dag(params: Params) -> str:
    """Text of ``dvc.yaml`` for a project with these parameters."""
    _, stages = read_original("dvc.yaml").split("stages:\n", 1)
    depths = len(params.ablation.sn_layers)

    def stage(match: re.Match[str]) -> str:
        name, body = match.groups()
        if name == _OF_TABLE_3 and params.ablation.is_one:
            return ""
        body = body.replace(f"python stages/{name}.py", f"python -m snojoe_project {name}")
        body = _MATRIX.sub(lambda found: found[1] + _wrapped(each_depth(found[2]), 25), body)
        return f"  {name}:\n" + _DEPS.sub(lambda found: deps(name, found[1]), body)

    def deps(name: str, text: str) -> str:
        kept = [f"{CODE}/{name}"]
        for item in each_depth(text):
            if item == _FOLDER:
                kept += [f'"{each}"' for each in data_deps(params, name)]
            elif not is_code(item):
                kept.append(item)
        return "deps:\n      " + _wrapped(kept, 6)

    def each_depth(text: str) -> Iterator[str]:
        """The items, with one for each of our depths for each that names the first."""
        for item in _items(text):
            if not (found := _DEPTH.search(item)):
                yield item
            elif found[1] == "0":
                yield from (_DEPTH.sub(str(i), item) for i in range(depths))

    stages = _STAGE.sub(stage, stages)
    if "outliers" not in params.data.model_fields_set:  # DVC asks for what an older file lacks
        stages = stages.replace(" data.outliers,", "")
    return _HEAD + (_PLOT_OF_TABLE_3.sub("", stages) if params.ablation.is_one else stages)


def is_project(dag: Path) -> bool:
    """Whether this is the ``dvc.yaml`` of a project, and no other or none."""
    return dag.exists() and f"\n  {CODE}:\n" in dag.read_text(encoding="utf-8")


def check_depths(params: Params, dag: Path) -> None:
    """Check that ``dvc.yaml`` has the depths that the parameters name; others would go unnoticed.

    Raises
    ------
    SnojoeError
        If it lists more or fewer.
    """
    text = dag.read_text(encoding="utf-8")
    listed, named = len(set(_DEPTH.findall(text))), params.ablation.sn_layers
    if listed != len(named):
        raise SnojoeError(
            f"params.yaml: ablation.sn_layers: expected as many depths as {dag.name} has, "
            f"{listed}; got {named}: "
            + ("`snojoe dag` writes it anew" if is_project(dag) else "a depth may be named twice")
        )


def is_code(dep: str) -> bool:
    """Whether a dependency of this repository's ``dvc.yaml`` is code."""
    return dep.startswith(("src/", "stages/"))


def code_of_stages() -> dict[str, list[str]]:
    """Files and folders of code that each stage can run, as this repository names them."""
    stages = yaml.safe_load(read_original("dvc.yaml"))["stages"]
    return {name: list(filter(is_code, stage["deps"])) for name, stage in stages.items()}


def data_deps(params: Params, stage: str) -> list[str]:
    """What the user brings, as ``dvc.yaml`` names it: DVC puts the parameters' values there."""
    for name in params.data.ood:
        if "." in name:
            raise SnojoeError(
                f"data.ood.{name}: expected a name without a dot, for dvc.yaml's sake"
            )
    return [
        f"${{data.folder}}/{path if name == _NETWORK else f'${{{name}}}'}"
        for name, path in brought(params)
        if stage == "download" or name not in (_WEIGHTS, _NETWORK)
    ]


def brought(params: Params) -> Iterator[tuple[str, str]]:
    """Parameters that name what the user brings, and their values: paths in ``data.folder``."""
    for i, source in enumerate(params.data.id):
        if source.path:
            yield f"data.id[{i}].path", source.path
    for name, source in params.data.ood.items():
        if source.path:
            yield f"data.ood.{name}.path", source.path
    if params.data.outliers and params.data.outliers.path:
        yield "data.outliers.path", params.data.outliers.path
    weights = params.model.weights
    if weights and weights_suffix(weights):
        yield _WEIGHTS, weights
    if params.model.own:
        yield _NETWORK, params.model.own.network.partition(":")[0]


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",")]


def _wrapped(items: Iterable[str], indent: int) -> str:
    """A list of YAML in as many lines as it takes."""
    text, width = ", ".join(items), _WIDTH - indent
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return "[" + f"\n{' ' * (indent + 1)}".join(lines) + "]\n"
