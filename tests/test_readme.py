import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["table2.md", "table3.md"])
def test_the_results_are_those_of_the_last_run(name):
    table = (ROOT / "metrics" / name).read_text(encoding="utf-8").strip()
    assert table in README


def test_the_diagram_has_the_stages_of_the_dag():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    diagram = README.split("```mermaid")[1].split("```")[0]
    assert set(stages) <= set(re.findall(r"\w+", diagram))


def test_every_file_that_is_linked_exists():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_example_parameters_have_known_keys():
    example = yaml.safe_load(README.split("```yaml")[1].split("```")[0])
    default = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for section, values in example.items():
        assert set(values) <= set(default[section])
