from pathlib import Path

import yaml
from committed import committed

from snojoe.params import Params

ROOT = Path(__file__).parents[1]


def merged(tree, changes):
    both = {k: merged(tree[k], v) if isinstance(v, dict) else v for k, v in changes.items()}
    return tree | both


def test_the_parameters_of_the_guide_to_own_data_are_valid():
    guide = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8")
    changes = yaml.safe_load(guide.split("```yaml")[1].split("```")[0])
    default = yaml.safe_load(committed("params.yaml"))
    default["data"]["splits"] = changes["data"].pop("splits")
    data = Params.model_validate(merged(default, changes)).data
    assert data.id[0].labels == "export.csv"
    assert data.splits.by_shares
