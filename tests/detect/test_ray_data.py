"""On a local Ray, which is an extra."""

import re
import secrets
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import model_folder, write_folder
from PIL import Image
from test_batch_detector import encoded, odd_images

import snojoe
from snojoe.data.images import decode

GUIDE = (Path(__file__).parents[2] / "docs/scale-out.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def ray():
    """Of three cores: one reads, two detect. Nothing is sent or shown anywhere."""
    ray = pytest.importorskip("ray", reason="takes the extra: pip install 'snojoe[ray]'")
    pytest.importorskip("ray.data")
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray") as short:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv(
            "RAY_AUTH_TOKEN", secrets.token_hex(32)
        )  # else Ray keeps one in the home folder
        ray.init(
            num_cpus=3,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=100 * 2**20,
            _temp_dir=short,
        )
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield ray
        ray.shutdown()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("models") / "seed0")


def test_the_guides_example_gives_what_detect_says(ray, model, tmp_path):
    photos = write_folder(tmp_path / "photos", odd_images())
    (code,) = (b for b in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL) if "import ray" in b)
    for path, here in (
        ("/photos", photos),
        ("/models/seed0", model),
        ("/found", tmp_path / "found"),
    ):
        assert f'"{path}"' in code
        code = code.replace(f'"{path}"', repr(str(here)))
    exec(code, {})
    found = pd.read_parquet(tmp_path / "found").sort_values("path")
    expected = [*snojoe.load_detector(model).stream(sorted(photos.iterdir()))]
    assert [*found["path"]] == [str(path) for path, _ in expected]
    errors = ["" if hasattr(each, "energy") else str(each) for _, each in expected]
    assert [*found["error"]] == errors
    assert sum(map(bool, errors)) == 2
    usable = found[found["error"] == ""]
    for name in ("in_distribution", "energy", "p_value"):
        values = [getattr(each, name) for _, each in expected if hasattr(each, "energy")]
        # Other batches than those of detect: see the guide.
        np.testing.assert_allclose(usable[name].astype(float), values, rtol=1e-5)


def test_pixels_that_ray_decodes_are_not_those_of_detect(ray, tmp_path):
    """What docs/scale-out.md says of read_images: without a model, the pixels themselves."""
    usual = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8))
    files = odd_images() | {"usual.png": encoded(usual)}
    usable = ("cmyk.jpg", "grey16.png", "transparent.png", "turned.jpg", "usual.png")
    write_folder(tmp_path, {name: files[name] for name in usable})
    paths = sorted(map(str, tmp_path.iterdir()))
    rows = ray.data.read_images(paths, mode="RGB", include_paths=True).take_all()
    same = {
        Path(row["path"]).name
        for row in rows
        if np.array_equal(row["image"], np.asarray(decode(Path(row["path"]))))
    }
    assert len(rows) == len(usable)
    assert same == {"usual.png", "cmyk.jpg"}
