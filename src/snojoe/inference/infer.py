"""One pass per set over the images, for all seeds of a depth: what every score reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch

from snojoe.data.pseudo_ood import PSEUDO_OOD, SEEN, Images
from snojoe.data.shards import Shards
from snojoe.experiment import SPLITS, Folders, seed_folder
from snojoe.inference.passes import write_image_outputs, write_outputs
from snojoe.inference.perturbation import Noise
from snojoe.inference.tuned import tuning_file, write_tuning
from snojoe.inference.tuning import chosen_noises, fit_mahalanobis, tune, tuning_images
from snojoe.model.classifier import Classifier
from snojoe.model.folder import load_model, read_config, weights_digest
from snojoe.model.weights import NETWORK
from snojoe.params import Params
from snojoe.support.failures import explained
from snojoe.support.files import atomic_folder
from snojoe.support.made_before import copy_made_before, fingerprint, note
from snojoe.support.processes import (
    from_first,
    is_first_process,
    process_count,
    processes_joined,
    say,
)

PSEUDO_IMAGES = 300
"""At most so many val images, and as many of each pseudo-OOD set, are kept to choose a score by."""


def infer_id(params: Params, folders: Folders, sn_layers: int, notes: Path | None = None) -> None:
    """Write what the models of a depth say of train, val and test; tune them before the last two.

    Beside these, what they say of pseudo-OOD images: `snojoe.results.auto` chooses a score by them.

    Noise is added to val, for calibration, and to test; detectors are fitted on clean images.
    Several processes share the images, and write to the bit what one would.

    Parameters
    ----------
    params : Params
    folders : Folders
    sn_layers : int
    notes : Path, optional
        Where it is noted whose outputs lie where: a depth with the very same models copies them.

    Raises
    ------
    SnojoeError
        If models or shards are missing or damaged, or a batch does not fit into memory.
    """
    target = folders.id_outputs(sn_layers)
    sources = [folders.shards(name) for name in SPLITS]
    path = _note_path(notes, params, folders, sn_layers, sources)
    if path and path.exists() and _copied(path, target):
        return
    models = _load_models(params, folders, sn_layers)
    with processes_joined(), _written(target) as written:
        _write_sets(params, folders, models, written, ("train",))
        images = tuning_images(Shards(folders.shards("val")))
        if params.infer.tune:
            _tune_each(params, models, images, written)
        _write_pseudo(params, models, images, written)
        noises = _noises([seed_folder(written, seed) for seed in params.seeds])
        _write_sets(params, folders, models, written, ("val", "test"), noises)
    if path:
        note(path, target)


def infer_ood(params: Params, folders: Folders, sn_layers: int, notes: Path | None = None) -> None:
    """Write what the models of a depth say of every OOD set, with the noise that `infer_id` tuned.

    Raises
    ------
    SnojoeError
        As `infer_id`.
    """
    target = folders.ood_outputs(sn_layers)
    tuned = [folders.tuned(sn_layers, seed) for seed in params.seeds]
    sources = [tuning_file(folder) for folder in tuned] if params.infer.tune else []
    sources += [folders.shards(name) for name in params.data.ood]
    path = _note_path(notes, params, folders, sn_layers, sources)
    if path and path.exists() and _copied(path, target):
        return
    models = _load_models(params, folders, sn_layers)
    with processes_joined(), _written(target) as written:
        _write_sets(params, folders, models, written, list(params.data.ood), _noises(tuned))
    if path:
        note(path, target)


def _note_path(
    notes: Path | None, params: Params, folders: Folders, sn_layers: int, sources: Sequence[Path]
) -> Path | None:
    """Named by what decides the outputs: the models, whatever their depth, and their images.

    None where nothing is to be noted: with several processes each would have to decide alike.
    """
    if notes is None or process_count() > 1:
        return None
    models = [folders.model(sn_layers, seed) for seed in params.seeds]
    configs = [read_config(each).model_dump(mode="json", exclude={"sn_layers"}) for each in models]
    code = [model / NETWORK for model in models if (model / NETWORK).exists()]
    known = [
        params.model_dump(mode="json", include={"arithmetic", "seeds", "infer"}),
        list(params.data.ood),
    ]
    digests = [weights_digest(model) for model in models]
    return notes / f"{fingerprint(*known, configs, digests, *code, *sources)}.json"


def _copied(path: Path, target: Path) -> bool:
    """Whether the very same models have left their outputs, which are now these."""
    try:
        with atomic_folder(target) as written:
            source = copy_made_before(path, written, target)
    except LookupError:
        return False
    say(f"the models are those of {source}, which is copied")
    return True


def _load_models(params: Params, folders: Folders, sn_layers: int) -> list[Classifier]:
    """The models of a depth, in the order of the seeds."""
    torch.set_num_threads(params.infer.threads)
    return [load_model(folders.model(sn_layers, seed), run_code=True)[0] for seed in params.seeds]


def _written(folder: Path) -> AbstractContextManager[Path]:
    """The folder as the first process writes it; others write nothing."""
    return atomic_folder(folder) if is_first_process() else nullcontext(folder)


def _noises(tuned: Sequence[Path]) -> list[dict[str, Noise]]:
    """What tuning left in the folders of each model: the first process has them."""
    return from_first(lambda: [chosen_noises(folder) for folder in tuned])


def _write_sets(
    params: Params,
    folders: Folders,
    models: Sequence[Classifier],
    target: Path,
    names: Sequence[str],
    noises: Sequence[Mapping[str, Noise]] = (),
) -> None:
    """Write each set below `target`, by seed and name."""
    batch_size = params.infer.batch_size
    for name in names:
        shards = Shards(folders.shards(name))
        targets = [seed_folder(target, seed) / name for seed in params.seeds]
        with explained("infer.batch_size", batch_size):
            write_outputs(models, shards, targets, batch_size=batch_size, noises=noises)
        say(f"{name}: {len(shards):,} images, {len(models)} models")


def _write_pseudo(
    params: Params, models: Sequence[Classifier], images: Images, target: Path
) -> None:
    """Write what a score can be chosen by without any OOD image; nothing of a single image."""
    if len(images) < 2:
        return
    rng = np.random.default_rng(0)
    images = images[np.sort(rng.permutation(len(images))[:PSEUDO_IMAGES])]
    made = {"id": images} | {name: make(images, rng) for name, make in PSEUDO_OOD.items()}
    for name, pixels in made.items():
        targets = [seed_folder(target, seed) / "pseudo" / name for seed in params.seeds]
        write_image_outputs(models, pixels, targets, batch_size=params.infer.batch_size)


def _tune_each(params: Params, models: Sequence[Classifier], images: Images, target: Path) -> None:
    """Choose the noise of ODIN and Mahalanobis for each model, without any OOD image."""
    for model, seed in zip(models, params.seeds, strict=True):
        outputs = seed_folder(target, seed)
        detector = from_first(partial(fit_mahalanobis, outputs))
        tuning = tune(model, detector, images, batch_size=params.infer.batch_size)
        if is_first_process():
            write_tuning(outputs, tuning)
        chosen = {score: each.model_dump() for score, each in tuning.items()}
        seen = f"; {SEEN}" if params.train.outliers == "pseudo_ood" else ""
        say(f"seed {seed}, tuned on {len(images):,} val images: {chosen}{seen}")
