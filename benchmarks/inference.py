"""Table 2's passes over the images: one for all scores, beside one per score.

    python benchmarks/inference.py [--arch resnet18] [--size 64] [--images 256] [--rounds 5]

*One per score* is what JointEnergy's public code needs: the logits; ODIN's logits, gradient and
logits of the noisy image; Mahalanobis' features, gradient and features of the noisy image; and the
features for LOF and Isolation Forest. It computes gradients as `loss.backward()` does, of the
parameters too. *One for all* is what `infer_ood` does (T = 1 and no noise, as the protocol's tuning
chose for ODIN), from the shards to the arrays on disk.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from timing import machine, print_table, ratio, take_turns

from snojoe.data.shards import ShardRow, Shards, write_shards
from snojoe.inference.passes import write_outputs
from snojoe.inference.perturbation import Noise, odin_loss
from snojoe.model.classifier import build_classifier
from snojoe.model.pixels import default_device, normalise

EPS, BATCH, CLASSES = 0.001, 32, 20


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    device = default_device()
    models = [build_classifier(arguments.arch, CLASSES).eval() for _ in range(arguments.seeds)]
    for model in models:
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    size = arguments.size
    channels = models[0].state_dict()["head.hidden.weight"].shape[1]
    precision = torch.randn(channels, device=device).square()
    rng = np.random.default_rng(0)
    rows = (
        ShardRow(str(i), rng.bytes(size * size * 3), np.zeros(CLASSES, np.uint8))
        for i in range(arguments.images)
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_shards(folder / "set", rows, split="test", content="pixels", image_size=size)
        shards = Shards(folder / "set")

        def passes(one):
            for each in models:
                for batch in shards.batches(BATCH):
                    one(each, normalise(torch.from_numpy(batch.pixels).to(device)))

        @torch.no_grad()
        def logits(model, images):
            return model(images).cpu()

        @torch.no_grad()
        def features(model, images):
            return model.avgpool(model.trunk(images)).cpu()

        def noisy(loss):
            def one(model, images):
                images = images.requires_grad_()
                loss(model, images).sum().backward()
                model.zero_grad()
                with torch.no_grad():
                    return model(images - EPS * images.grad.sign()).cpu()

            return one

        def energy(model, images):
            return torch.nn.functional.logsigmoid(model(images).abs())

        def distance(model, images):
            return model.avgpool(model.trunk(images)).square() @ precision

        def per_score():
            passes(logits)
            passes(noisy(energy))
            passes(noisy(distance))
            passes(features)

        def ours(*scores):
            noises = {
                "odin": Noise("logits", odin_loss, EPS),
                "mahalanobis": Noise(
                    "features", lambda outputs: outputs.features.square() @ precision, EPS
                ),
            }
            write_outputs(
                models,
                shards,
                [folder / f"{i}" for i in range(len(models))],
                batch_size=BATCH,
                noises=[{score: noises[score] for score in scores}] * len(models),
            )

        variants = {
            "logits alone": lambda: passes(logits),
            "one for all": ours,
            "one for all, and noise for Mahalanobis": lambda: ours("mahalanobis"),
            "one for all, and noise for ODIN and Mahalanobis": lambda: ours("mahalanobis", "odin"),
            "ODIN alone": lambda: passes(noisy(energy)),
            "Mahalanobis alone": lambda: passes(noisy(distance)),
            "one per score": per_score,
        }
        seconds = take_turns(variants, arguments.rounds)
    print(f"{machine()}\n{arguments.arch}, {arguments.images} images of {size} x {size}, ", end="")
    print(f"{len(models)} seeds, medians of {arguments.rounds} rounds\n")
    print_table(
        ("passes", "in passes for logits", "faster than one per score"),
        [
            (
                name,
                f"{ratio(seconds, name, 'logits alone'):.2f}",
                f"{ratio(seconds, 'one per score', name):.1f} x",
            )
            for name in variants
        ],
    )


if __name__ == "__main__":
    main()
