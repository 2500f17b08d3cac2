"""``detectors``: every score's detector, calibrated, so that images can be decided by it."""

from __future__ import annotations

import numpy as np

from snojoe.detectors import Detector
from snojoe.detectors.store import ID, keep_detector, write_store
from snojoe.experiment import depth_folder, seed_folder
from snojoe.measures.metrics import FloatArray
from snojoe.model.folder import weights_digest
from snojoe.results.auto import pseudo_fpr95
from snojoe.results.grids import Grid, ScoreRow, compared_models, fit_row
from snojoe.results.stored import Experiment
from snojoe.results.tuned_scores import Choice, TunedScores, tuned_score_grid
from snojoe.support.files import atomic_folder


def score_and_keep(
    experiment: Experiment, sn_layers: int
) -> tuple[Grid[ScoreRow], TunedScores, dict[str, list[dict[str, float]]]]:
    """`tuned_score_grid`, each detector of whose first is calibrated and kept in ``detectors``.

    What learns from val is fitted anew for that, on the images that nothing is calibrated on.

    The last are what scores can be chosen by without OOD images: `auto.Choices`.

    A score to which tuning gave noise is calibrated on noisy images, and has no pseudo-OOD ones:
    it was tuned on these.

    Raises
    ------
    SnojoeError
        If outputs or models are missing or damaged, or val has no image to calibrate on.
    """
    with atomic_folder(experiment.folders.detectors) as target:
        kept: dict[tuple[int, int], list[ScoreRow]] = {}
        measured: dict[tuple[ScoreRow, int], dict[str, FloatArray]] = {}
        pseudo: dict[tuple[int, int], dict[str, float]] = {}
        noise: dict[tuple[int, int], dict[str, float]] = {}
        seen: set[tuple[ScoreRow, int]] = set()

        def keep(row: ScoreRow, seed: int, detector: Detector, choice: Choice | None) -> None:
            tuned = experiment.tuning(row.sn_layers, seed).get(row.score)
            eps = tuned.eps if tuned else 0.0
            if detector.learns_from_val:  # what does not is the same, fitted on fewer images
                val = experiment.to_choose(row.sn_layers, seed)
                detector = fit_row(experiment, row, seed, val)
                measured[row, seed] = {
                    name: detector.score_outputs(
                        experiment.outputs(row.sn_layers, seed, folder, row.score)
                    )
                    for name, folder in experiment.test_sets.items()
                }
            folder = seed_folder(depth_folder(target, row.sn_layers), seed)
            folder.mkdir(parents=True, exist_ok=True)
            if eps or detector.learns_from_val:
                fpr95 = None
            elif choice:  # among whose variants the default was measured
                fpr95 = choice.default_fpr95
            else:
                fpr95 = pseudo_fpr95(experiment, row.sn_layers, seed, detector)
            detector.calibrate_outputs(experiment.to_calibrate(row.sn_layers, seed, row.score))
            try:
                keep_detector(folder, detector)
            except ValueError as error:  # the tables have it all the same
                print(f"not in {experiment.folders.detectors}: {error}")
                return
            if detector.learns_from_val and experiment.test_calibrates.any():
                seen.add((row, seed))  # the rest of test, which is val: nothing new
            if eps:
                noise.setdefault((row.sn_layers, seed), {})[row.score] = eps
            if fpr95 is not None:
                pseudo.setdefault((row.sn_layers, seed), {})[row.score] = fpr95
            kept.setdefault((row.sn_layers, seed), []).append(row)

        grid, tuned = tuned_score_grid(experiment, sn_layers, keep)
        calibrated_on = experiment.calibrated_on()
        for depth in set(compared_models(sn_layers).values()):
            for i, seed in enumerate(experiment.seeds):
                write_store(
                    seed_folder(depth_folder(target, depth), seed),
                    {
                        row.score: _promised(
                            experiment,
                            row,
                            seed,
                            measured.get((row, seed))
                            or {name: each[i] for name, each in grid.scores(row).items()},
                        )
                        for row in kept.get((depth, seed), [])
                        if (row, seed) not in seen
                    },
                    model=weights_digest(experiment.folders.model(depth, seed)),
                    val=calibrated_on,
                    pseudo_fpr95=pseudo.get((depth, seed)),
                    noise=noise.get((depth, seed)),
                )
    choices = {
        model: [pseudo.get((depth, seed), {}) for seed in experiment.seeds]
        for model, depth in compared_models(sn_layers).items()
    }
    return grid, tuned, choices


def _promised(
    experiment: Experiment, row: ScoreRow, seed: int, scores: dict[str, FloatArray]
) -> dict[str, FloatArray]:
    """Scores of the OOD sets, and of the test images that say what a threshold does to new ones.

    Those show a class, for which alone it promises anything, and calibrate nothing.
    """
    kept = ~experiment.test_calibrates
    labels = experiment.outputs(row.sn_layers, seed, "test").labels
    if labels is not None and labels.any():
        kept &= np.asarray(labels).any(axis=1)
    return scores | {ID: scores[ID][kept]}
