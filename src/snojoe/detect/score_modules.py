"""The scores in PyTorch, for files that are to run without this package.

Each is what its detector computes in NumPy, in float64 as there: `export_onnx` compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snojoe.detectors import Detector, IsolationForest
from snojoe.detectors.lof import LOF
from snojoe.detectors.saved import learnt_parts
from snojoe.model.classifier import Outputs
from snojoe.support.errors import SnojoeError

Learnt = Mapping[str, Any]
"""What a detector has learnt and its parameters: float64 tensors and numbers by name."""


class ScoreModule(nn.Module):
    """A fitted detector's score.

    Raises
    ------
    SnojoeError
        For a detector without a form here.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        if detector.name not in FORMULAS:
            raise SnojoeError(
                f"score: {detector.name} cannot be exported; expected one of {', '.join(FORMULAS)}"
            )
        self.formula = FORMULAS[detector.name]
        arrays, numbers, _ = learnt_parts(detector)
        if isinstance(detector, LOF):
            arrays |= _neighbourhoods(detector)
        if isinstance(detector, IsolationForest):
            arrays, trees = _trees(detector)
            numbers |= trees
        arrays.pop("calibration_", None)
        numbers |= detector.get_params()
        # The exporter keeps a tensor's bits; a Python number it takes for float32.
        exact = {name: value for name, value in numbers.items() if isinstance(value, float)}
        arrays |= {name: np.array(value) for name, value in exact.items()}
        self.numbers = {name: value for name, value in numbers.items() if name not in exact}
        self.names = {name: name.replace(".", "_") for name in arrays}
        for name, array in arrays.items():
            kept = array if array.dtype == np.int64 else array.astype(np.float64)
            self.register_buffer(self.names[name], torch.from_numpy(np.ascontiguousarray(kept)))

    def forward(self, outputs: Outputs) -> Tensor:
        """The outputs for n images -> (n,) float64 scores."""
        learnt = {name: self.get_buffer(own) for name, own in self.names.items()}
        exact = Outputs(*(each.double() for each in outputs))
        return self.formula({**self.numbers, **learnt}, exact)


def _energy(logits: Tensor) -> Tensor:
    # ONNX Runtime has no softplus of float64.
    return (logits.clamp(min=0) + (-logits.abs()).exp().log1p()).sum(dim=1)


def _msp(learnt: Learnt, outputs: Outputs) -> Tensor:
    ordered = outputs.logits.topk(outputs.logits.shape[1], dim=1).values
    return -(ordered[:, 1:] - ordered[:, :1]).exp().sum(dim=1).log1p()


def _top_k_energy(learnt: Learnt, outputs: Outputs) -> Tensor:
    k = min(learnt["k"], outputs.logits.shape[1])
    return _energy(outputs.logits.topk(k, dim=1).values)


def _grad_norm(learnt: Learnt, outputs: Outputs) -> Tensor:
    surprise = outputs.logits.softmax(dim=1) - 1 / outputs.logits.shape[1]
    return outputs.hidden.abs().sum(dim=1) * surprise.abs().sum(dim=1)


def _grad_norm_joint_energy(learnt: Learnt, outputs: Outputs) -> Tensor:
    return outputs.hidden.abs().sum(dim=1) * outputs.logits.sigmoid().sum(dim=1)


def _react(learnt: Learnt, outputs: Outputs) -> Tensor:
    clipped = outputs.hidden.clamp(max=learnt["clip_"])
    return _energy(clipped @ learnt["head_.weight"].T + learnt["head_.bias"])


def _she(learnt: Learnt, outputs: Outputs) -> Tensor:
    predicted = outputs.logits[:, learnt["known_classes_"]].argmax(dim=1, keepdim=True)
    return (outputs.hidden @ learnt["patterns_"].T).gather(1, predicted)[:, 0]


def _residual(learnt: Learnt, outputs: Outputs) -> Tensor:
    minor = (outputs.hidden - learnt["origin_"]) @ learnt["minor_directions_"]
    return -minor.square().sum(dim=1).sqrt()


def _vim(learnt: Learnt, outputs: Outputs) -> Tensor:
    return _energy(outputs.logits) + learnt["alpha_"] * _residual(learnt, outputs)


def _distances(learnt: Learnt, name: str, features: Tensor) -> Tensor:
    """Squared Mahalanobis distances: (n, C) -> (n, K)."""
    white = (features - learnt[f"{name}.centre"]) @ learnt[f"{name}.whitener"]
    means = learnt[f"{name}.means"]
    squares = white.square().sum(dim=1)[:, None] + means.square().sum(dim=1)
    return (squares - 2 * white @ means.T).clamp(min=0)


def _norm(learnt: Learnt, outputs: Outputs, field: str) -> Tensor:
    return getattr(outputs, field).square().sum(dim=1).sqrt()


def _mahalanobis(learnt: Learnt, outputs: Outputs, field: str) -> Tensor:
    return -0.5 * _distances(learnt, "gaussians_", getattr(outputs, field)).amin(dim=1)


def _mahalanobis_pp(learnt: Learnt, outputs: Outputs, field: str) -> Tensor:
    directions = _directions(getattr(outputs, field))
    return -0.5 * _distances(learnt, "gaussians_", directions).amin(dim=1)


def _relative_mahalanobis(learnt: Learnt, outputs: Outputs, field: str) -> Tensor:
    features = getattr(outputs, field)
    background = _distances(learnt, "background_", features)[:, 0]
    return background - _distances(learnt, "gaussians_", features).amin(dim=1)


def _directions(features: Tensor) -> Tensor:
    norm = features.square().sum(dim=1, keepdim=True).sqrt()
    return features / torch.where(norm > 0, norm, torch.ones_like(norm))


def _nearest(points: Tensor, to: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Distances and indices of the k nearest of (m, d) points, the nearest first: (n, k)."""
    squares = torch.stack([(points - row).square().sum(dim=1) for row in to.unbind()])
    found = squares.topk(min(k, len(points)), dim=1, largest=False)
    return found.values.sqrt(), found.indices


def _knn(learnt: Learnt, outputs: Outputs, field: str) -> Tensor:
    directions = _directions(getattr(outputs, field))
    return -_nearest(learnt["directions_"], directions, learnt["k_"])[0][:, -1]


def _nn_guide(learnt: Learnt, outputs: Outputs) -> Tensor:
    similar = _directions(outputs.hidden) @ learnt["directions_"].T * learnt["energies_"]
    k = min(learnt["k"], len(learnt["energies_"]))
    return _energy(outputs.logits) * similar.topk(k, dim=1).values.mean(dim=1)


def _neighbourhoods(detector: LOF) -> dict[str, np.ndarray]:
    """Of each image that was seen the distance to its k-th neighbour, and its reachability."""
    distances, nearest = detector.lof_.kneighbors(n_neighbors=detector.lof_.n_neighbors_)
    reach = distances[:, -1]
    reached = np.maximum(distances, reach[nearest])
    return {"reach": reach, "density": 1 / (reached.mean(axis=1) + 1e-10)}


def _lof(learnt: Learnt, outputs: Outputs) -> Tensor:
    k = min(learnt["n_neighbors"], len(learnt["seen_"]) - 1)
    distances, nearest = _nearest(learnt["seen_"], outputs.logits, k)
    density = 1 / (torch.maximum(distances, learnt["reach"][nearest]).mean(dim=1) + 1e-10)
    return -learnt["density"][nearest].mean(dim=1) / density


def _trees(detector: IsolationForest) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """All nodes of all trees in a row; a leaf is its own child and has the depth that it is worth.

    Liu et al. 2008: a leaf of m images stands for a tree of theirs, which is c(m) deep on average.
    """
    nodes: dict[str, list[np.ndarray]] = {}
    roots, start, deepest = [], 0, 0
    for estimator in detector.forest_.estimators_:
        tree = estimator.tree_
        leaf, here = tree.children_left < 0, np.arange(tree.node_count)
        depth = np.zeros(tree.node_count)
        for node in np.flatnonzero(~leaf):  # parents come before their children
            depth[[tree.children_left[node], tree.children_right[node]]] = depth[node] + 1
        parts = {
            "feature": np.where(leaf, 0, tree.feature),
            "threshold": tree.threshold,
            "left": start + np.where(leaf, here, tree.children_left),
            "right": start + np.where(leaf, here, tree.children_right),
            "depth": depth + _mean_depth(tree.n_node_samples),
        }
        for name, part in parts.items():
            nodes.setdefault(name, []).append(part)
        roots.append(start)
        start += tree.node_count
        deepest = max(deepest, int(depth.max()))
    arrays = {name: np.concatenate(parts) for name, parts in nodes.items()}
    whole = float(_mean_depth(np.array([detector.forest_.max_samples_]))[0])
    return arrays | {"roots": np.array(roots)}, {"levels": deepest, "whole": whole}


def _mean_depth(images: np.ndarray) -> np.ndarray:
    """c(m) of m images: 0, 1, then 2 H(m - 1) - 2 (m - 1) / m with H(i) = ln i + 0.5772."""
    many = np.maximum(images, 3).astype(np.float64)
    found = 2 * (np.log(many - 1) + np.euler_gamma) - 2 * (many - 1) / many
    return np.where(images > 2, found, images == 2)


def _isolation_forest(learnt: Learnt, outputs: Outputs) -> Tensor:
    logits = outputs.logits.float().double()  # the trees compare in float32
    node = learnt["roots"].expand(len(logits), -1)
    for _ in range(learnt["levels"]):
        low = logits.gather(1, learnt["feature"][node]) <= learnt["threshold"][node]
        node = torch.where(low, learnt["left"][node], learnt["right"][node])
    return -torch.exp2(-learnt["depth"][node].mean(dim=1) / learnt["whole"])


def _linear(learnt: Learnt, hidden: Tensor) -> Tensor:
    return hidden @ learnt["head_.weight"].T + learnt["head_.bias"]


def _largest(hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Which are the k largest activations, and above 0; the sum of all above 0 over theirs."""
    positive = hidden.clamp(min=0)
    kept = (hidden >= hidden.topk(k, dim=1).values[:, -1:]) & (hidden > 0)
    part = (positive * kept).sum(dim=1, keepdim=True)
    ratio = positive.sum(dim=1, keepdim=True) / torch.where(part > 0, part, torch.ones_like(part))
    return kept, torch.where(part > 0, ratio, torch.ones_like(part))


def _scale(learnt: Learnt, outputs: Outputs) -> Tensor:
    _, ratio = _largest(outputs.hidden, learnt["k_"])
    return _energy(_linear(learnt, outputs.hidden * ratio.exp()))


def _ash_p(learnt: Learnt, outputs: Outputs) -> Tensor:
    kept, _ = _largest(outputs.hidden, learnt["k_"])
    return _energy(_linear(learnt, outputs.hidden * kept))


def _ash_b(learnt: Learnt, outputs: Outputs) -> Tensor:
    kept, _ = _largest(outputs.hidden, learnt["k_"])
    total = outputs.hidden.clamp(min=0).sum(dim=1, keepdim=True)
    count = kept.double().sum(dim=1, keepdim=True).clamp(min=1)
    return _energy(_linear(learnt, kept * (total / count)))


def _ash_s(learnt: Learnt, outputs: Outputs) -> Tensor:
    kept, ratio = _largest(outputs.hidden, learnt["k_"])
    return _energy(_linear(learnt, outputs.hidden * kept * ratio.exp()))


def _vra(learnt: Learnt, outputs: Outputs) -> Tensor:
    clipped = outputs.hidden.clamp(max=learnt["clip_"])
    suppressed = torch.where(clipped < learnt["floor_"], torch.zeros_like(clipped), clipped)
    return _energy(_linear(learnt, suppressed))


def _neco(learnt: Learnt, outputs: Outputs) -> Tensor:
    standard = (outputs.hidden - learnt["mean_"]) / learnt["spread_"]
    norm = standard.square().sum(dim=1).sqrt()
    inside = (standard @ learnt["directions_"]).square().sum(dim=1).sqrt()
    return inside / torch.where(norm > 0, norm, torch.ones_like(norm))


def _fdbd(learnt: Learnt, outputs: Outputs) -> Tensor:
    distances = outputs.logits / learnt["norms_"]
    inside, nearest = distances.clamp(min=0).sum(dim=1), distances.amax(dim=1)
    deviation = (outputs.hidden - learnt["mean_"]).square().sum(dim=1).sqrt()
    return torch.where(nearest > 0, inside, nearest) / deviation.clamp(min=1e-12)


def _nci(learnt: Learnt, outputs: Outputs) -> Tensor:
    centred = outputs.hidden - learnt["mean_"]
    probable = outputs.logits.argmax(dim=1, keepdim=True)
    along = (centred @ learnt["weight_"].T).gather(1, probable)[:, 0]
    along = along / centred.square().sum(dim=1).sqrt().clamp(min=1e-12)
    return along + learnt["alpha"] * outputs.hidden.abs().sum(dim=1)


def _log_sigmoid(logits: Tensor) -> Tensor:
    return logits.clamp(max=0) - (-logits.abs()).exp().log1p()


def _kl_matching(learnt: Learnt, outputs: Outputs) -> Tensor:
    p, q = outputs.logits.sigmoid(), (-outputs.logits).sigmoid()
    entropy = -(p * _log_sigmoid(outputs.logits) + q * _log_sigmoid(-outputs.logits))
    typical, untypical = learnt["log_typical_"][:, None], learnt["log_untypical_"][:, None]
    return (entropy + (p * typical + q * untypical).amax(dim=0)).sum(dim=1)


def _gen(learnt: Learnt, outputs: Outputs) -> Tensor:
    probable = outputs.logits.topk(learnt["m_"], dim=1).values.abs()
    logs = -probable - 2 * (-probable).exp().log1p()
    return -(learnt["gamma"] * logs).exp().sum(dim=1)


def _co_occurrence(learnt: Learnt, outputs: Outputs) -> Tensor:
    logs = _log_sigmoid(outputs.logits)
    shares = (logs - logs.amax(dim=1, keepdim=True)).exp()
    weights = shares @ learnt["company_"] / shares.sum(dim=1, keepdim=True)
    return (-_log_sigmoid(-outputs.logits) * weights).sum(dim=1)


def _max_cosine(learnt: Learnt, outputs: Outputs) -> Tensor:
    norm = outputs.hidden.square().sum(dim=1, keepdim=True).sqrt()
    cosines = _linear(learnt, outputs.hidden) / torch.where(norm > 0, norm, torch.ones_like(norm))
    return cosines.amax(dim=1)


def _gaussian_mixture(learnt: Learnt, outputs: Outputs) -> Tensor:
    scaled = (outputs.features[:, None] - learnt["means_"]) * learnt["scales_"]
    logs = learnt["weights_"].log() + learnt["scales_"].log().sum(dim=1)
    logs = logs - 0.5 * scaled.square().sum(dim=2)
    return logs.logsumexp(dim=1) - 0.5 * math.log(2 * math.pi) * outputs.features.shape[1]


FORMULAS: dict[str, Callable[[Learnt, Outputs], Tensor]] = {
    "joint_energy": lambda learnt, outputs: _energy(outputs.logits),
    "max_logit": lambda learnt, outputs: outputs.logits.amax(dim=1),
    "sum_logit": lambda learnt, outputs: outputs.logits.sum(dim=1),
    "sum_prob": lambda learnt, outputs: outputs.logits.sigmoid().sum(dim=1),
    "odin": lambda learnt, outputs: outputs.logits.amax(dim=1) / learnt["temperature"],
    "msp": _msp,
    "top_k_energy": _top_k_energy,
    "feature_norm": partial(_norm, field="features"),
    "feature_norm_hidden": partial(_norm, field="hidden"),
    "grad_norm": _grad_norm,
    "grad_norm_joint_energy": _grad_norm_joint_energy,
    "react": _react,
    "she": _she,
    "residual": _residual,
    "vim": _vim,
    "mahalanobis": partial(_mahalanobis, field="features"),
    "mahalanobis_hidden": partial(_mahalanobis, field="hidden"),
    "mahalanobis_pp": partial(_mahalanobis_pp, field="hidden"),
    "mahalanobis_pp_features": partial(_mahalanobis_pp, field="features"),
    "relative_mahalanobis": partial(_relative_mahalanobis, field="hidden"),
    "relative_mahalanobis_features": partial(_relative_mahalanobis, field="features"),
    "knn": partial(_knn, field="hidden"),
    "knn_features": partial(_knn, field="features"),
    "nn_guide": _nn_guide,
    "lof": _lof,
    "isolation_forest": _isolation_forest,
    "scale": _scale,
    "ash_p": _ash_p,
    "ash_b": _ash_b,
    "ash_s": _ash_s,
    "dice": lambda learnt, outputs: _energy(_linear(learnt, outputs.hidden)),
    "vra": _vra,
    "neco": _neco,
    "fdbd": _fdbd,
    "nci": _nci,
    "kl_matching": _kl_matching,
    "gen": _gen,
    "co_occurrence": _co_occurrence,
    "max_cosine": _max_cosine,
    "gaussian_mixture": _gaussian_mixture,
}
"""Score -> its equation, as the docstring of its detector's module has it."""
