from pathlib import Path

import yaml

from snojoe.experiment import SPLITS, Folders

ROOT = Path(__file__).parents[1]


def outs(stage):
    """Outputs of a stage by dvc.yaml, of depth 9 and seed 4."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    found = [next(iter(out)) if isinstance(out, dict) else out for out in stages[stage]["outs"]]
    return [out.replace("${item.sn_layers}", "9").replace("${item.seed}", "4") for out in found]


def test_stages_write_where_dvc_looks():
    folders = Folders(Path())
    assert outs("train") == [str(folders.model(9, 4))]
    assert outs("infer_id") == [str(folders.id_outputs(9))]
    assert outs("infer_ood") == [str(folders.ood_outputs(9))]
    assert str(folders.detectors) in outs("score")
    assert folders.detectors in folders.detectors_of(9, 4).parents
    assert outs("report") == [str(folders.page)]
    prepared = outs("preprocess")
    assert {str(folders.shards(split)) for split in SPLITS} <= set(prepared)
    assert str(folders.shards("textures").parent) in prepared


def test_outputs_of_a_model_are_below_what_its_stage_writes():
    folders = Folders(Path())
    assert folders.outputs(9, 4, "val") == folders.id_outputs(9) / "seed4/val"
    assert folders.outputs(9, 4, "textures") == folders.ood_outputs(9) / "seed4/textures"
    assert folders.tuned(9, 4) == folders.outputs(9, 4, "val").parent
