"""Every score that pytorch-ood has too, beside its own: `python benchmarks/peers.py [--threads 2]`.

Random arrays of the paper's size, float32 as inference stores them: fit on 5,717 x 2,048 hidden
features of 20 classes, score 10,991; one label an image, since pytorch-ood knows no more. Both get
the same arrays, the same parameters and as many threads; they take turns, in another order each
round, and the fastest round of each counts. With one thread the clock is the processor time, which
other programs disturb least; otherwise it is the wall clock. Ranks is Spearman's correlation of
both scores: less than 1 where theirs is the formula of a softmax and ours that of K sigmoids. Joint
energy, GEN and KL matching are put together from its scores of two classes, once for each label.

pytorch-ood is in the development environment (`make install`), else
`pip install --no-deps pytorch-ood==0.4.0`.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from threadpoolctl import threadpool_limits
from timing import machine, print_table, take_turns

from snojoe.detectors import DETECTORS, LinearHead, ModelOutputs, fit_detector

try:
    import pytorch_ood
    from pytorch_ood import detector as theirs
except ImportError as error:
    sys.exit(f"{error}; expected pip install --no-deps pytorch-ood==0.4.0, or make install")

K, D = 20, 2048
TRAIN, TEST = 5_717, 10_991
PRINCIPAL_DIM = 1000

Score = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Arrays:
    """What both see, and the last layer."""

    train: ModelOutputs
    test: ModelOutputs
    head: LinearHead

    @property
    def layer(self) -> torch.nn.Linear:
        layer = torch.nn.Linear(D, K)
        layer.load_state_dict(
            {"weight": torch.from_numpy(self.head.weight), "bias": torch.from_numpy(self.head.bias)}
        )
        return layer.requires_grad_(False)


def made(n, head, patterns, rng):
    """Features after a ReLU that each class shifts in its own direction, and their logits."""
    ids = np.arange(n) % K
    hidden = np.maximum(rng.standard_normal((n, D), np.float32) + patterns[ids], 0)
    logits = head.logits(hidden).astype(np.float32)
    return ModelOutputs(logits, hidden, hidden, np.eye(K)[ids])


def arrays() -> Arrays:
    rng = np.random.default_rng(0)
    patterns = rng.standard_normal((K, D), np.float32) / 4
    head = LinearHead(patterns / 8, np.full(K, -8, np.float32))
    return Arrays(made(TRAIN, head, patterns, rng), made(TEST, head, patterns, rng), head)


def joint_energy(logits):
    return -torch.nn.functional.softplus(logits).sum(dim=1)


def of_maps(score: Score) -> Score:
    """Their scores of feature maps, of features."""
    return lambda hidden: score(hidden[:, :, None, None])


def shaped(kind, **params):
    """Their fit of a score that shapes activations and has nothing to learn."""

    def fit(a, hidden, ids):
        layer = a.layer
        detector = kind(None, lambda h: layer(h.flatten(1)), detector=joint_energy, **params)
        return of_maps(detector.predict_feature_maps)

    return fit


def clipped(kind, **params):
    """Their fit of a score that learns where to clip."""

    def fit(a, hidden, ids):
        layer = a.layer
        detector = kind(None, lambda h: layer(h.flatten(1)), detector=joint_energy, **params)
        detector.fit_feature_maps(hidden[:, :, None, None], ids)
        return of_maps(detector.predict_feature_maps)

    return fit


def of_features(make):
    """Their fit of a score of features, `make` being given the arrays."""
    return lambda a, hidden, ids: make(a).fit_features(hidden, ids).predict_features


def of_logits(score):
    """Their fit of what has nothing to learn from logits."""
    return lambda a, hidden, ids: score


def binary(logits):
    """A softmax over (f, 0) is a sigmoid: K networks of two classes."""
    return [torch.stack([f, torch.zeros_like(f)], 1) for f in logits.T]


def kl_matching(a, hidden, ids):
    fitted = [
        theirs.KLMatching(None).fit_logits(each)
        for each in binary(torch.from_numpy(a.train.logits))
    ]
    return lambda logits: sum(
        of.predict_logits(each) for of, each in zip(fitted, binary(logits), strict=True)
    )


def grad_norm(a, hidden, ids):
    return theirs.GradNorm(a.layer, param_filter=lambda name: name == "weight").predict


PEERS: dict[str, Callable[..., Score]] = {
    "max_logit": of_logits(theirs.MaxLogit.score),
    "msp": of_logits(theirs.MaxSoftmax.score),
    "joint_energy": of_logits(lambda f: sum(map(theirs.EnergyBased.score, binary(f)))),
    "gen": of_logits(lambda f: sum(map(theirs.GEN.score, binary(f)))),
    "kl_matching": kl_matching,
    "mahalanobis": of_features(lambda a: theirs.Mahalanobis(None)),
    "relative_mahalanobis": of_features(lambda a: theirs.RMD(None)),
    "gaussian_mixture": of_features(lambda a: theirs.GMM(None)),
    "knn": of_features(lambda a: theirs.KNN(None, k=round(TRAIN / 1000))),
    "nn_guide": of_features(lambda a: theirs.NNGuide(None, a.layer, k=10)),
    "vim": of_features(lambda a: theirs.ViM(None, PRINCIPAL_DIM, a.layer.weight, a.layer.bias)),
    "she": of_features(lambda a: theirs.SHE(None, a.layer)),
    "nci": of_features(lambda a: theirs.NCI(None, a.layer, alpha=1e-4)),
    "fdbd": of_features(lambda a: theirs.fDBD(None, a.layer)),
    "dice": of_features(
        lambda a: theirs.DICE(None, a.layer.weight, a.layer.bias, 0.9, joint_energy)
    ),
    "react": clipped(theirs.ReAct, percentile=0.9),
    "vra": clipped(theirs.VRA, lower_percentile=0.6, upper_percentile=0.95),
    "ash_p": shaped(theirs.ASH, variant="ash-p", percentile=0.65),
    "ash_b": shaped(theirs.ASH, variant="ash-b", percentile=0.65),
    "ash_s": shaped(theirs.ASH, variant="ash-s", percentile=0.9),
    "scale": shaped(theirs.SCALE, percentile=0.85),
    "grad_norm": grad_norm,
}
"""Our name -> their fit of the arrays, train's features and classes, which gives their score.

Left out are ODIN, whose gradient is the network's, and what theirs computes from more than arrays.
"""

PARAMS = {"gen": {"m": K}}  # theirs adds up all


def compare(name: str, a: Arrays, rounds: int) -> list[Any]:
    fitted: dict[str, Any] = {}
    scores: dict[str, Any] = {}
    hidden = torch.from_numpy(a.train.hidden)
    ids = torch.from_numpy(np.arange(TRAIN) % K)
    logits_alone = DETECTORS[name].consumes == ("logits",)
    test = torch.from_numpy(a.test.logits if logits_alone else a.test.hidden)

    def fit_ours():
        fitted["ours"] = fit_detector(name, a.train, a.train, a.head, **PARAMS.get(name, {}))

    def fit_theirs():
        fitted["theirs"] = PEERS[name](a, hidden, ids)

    def score_ours():
        scores["ours"] = fitted["ours"].score_outputs(a.test)

    def score_theirs():
        scores["theirs"] = fitted["theirs"](test)

    fits = take_turns({"ours": fit_ours, "theirs": fit_theirs}, rounds)
    scorings = take_turns({"ours": score_ours, "theirs": score_theirs}, rounds)
    cells: list[Any] = [DETECTORS[name].title]
    total = {who: min(fits[who]) + min(scorings[who]) for who in fits}
    for who in total:
        cells += [f"{min(fits[who]):.3f}", f"{min(scorings[who]):.3f}", f"{total[who]:.3f}"]
    ranks = spearmanr(scores["ours"], -scores["theirs"].numpy()).statistic
    return [*cells, f"{total['ours'] / total['theirs']:.2f}", f"{ranks:.6f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3, help="after one that does not count")
    parser.add_argument("--scores", nargs="+", choices=PEERS, default=list(PEERS))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with threadpool_limits(arguments.threads):
        print(f"{machine()}, pytorch-ood {pytorch_ood.__version__}")
        both = arrays()
        sides = [f"{who} {what}, s" for who in ("our", "their") for what in ("fit", "score", "sum")]
        header = ["score", *sides, "ours by theirs", "ranks"]
        print_table(header, [])
        for name in arguments.scores:
            print(f"| {' | '.join(compare(name, both, arguments.rounds))} |", flush=True)


if __name__ == "__main__":
    main()
