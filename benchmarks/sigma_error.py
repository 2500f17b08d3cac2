"""How exact sigma is at every step of a fine-tuning in which weights rest.

    python benchmarks/sigma_error.py [--lr 1e-5] [--steps 250] [--prepared data/prepared]

A ResNet-101 with spectral normalisation on its trunk learns the default experiment's scenes, which
`make repro` prepares, at 64 x 64, batches of 16, Adam: 30 steps at 1e-3 in place of a pretraining,
then `--steps` at `--lr`. After each of these, sigma of some weights, among them those of 3 x 3 x
512 x 512, is compared with the exact one; that of all weights after every 50th and at the end.
Prints the largest errors, and how much of the network is iterated at a step.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from timing import machine, print_table

from snojoe.data.shards import Shards
from snojoe.model.classifier import build_classifier
from snojoe.model.pixels import normalise
from snojoe.spectral_norm import apply_spectral_norm
from snojoe.spectral_norm.conv_linear import SpectralWeight
from snojoe.spectral_norm.movement import CALM_STEPS

WATCHED = [
    *("conv1", "layer1.0.conv1", "layer2.1.conv2", "layer3.5.conv2", "layer3.10.conv3"),
    *("layer4.0.conv2", "layer4.1.conv2", "layer4.2.conv2", "layer4.2.conv3"),
]


@torch.no_grad()
def errors(modules):
    """Return the relative errors of the stored sigmas, themselves to about 1e-6."""
    found = []
    for module in modules:
        matrix = module.trained_weight.flatten(1)
        matrix = matrix if len(matrix) <= matrix.shape[1] else matrix.mT
        exact = torch.linalg.eigvalsh(matrix @ matrix.mT)[-1].sqrt()
        found.append(float((module.spectral_norm.sigma / exact - 1).abs()))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lr", type=float, default=1e-5)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--prepared", type=Path, default=Path("data/prepared"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    val = Shards(arguments.prepared / "val")
    pixels = np.concatenate([batch.pixels for batch in val.batches(64)])
    images = F.interpolate(normalise(torch.from_numpy(pixels)), size=64, mode="bilinear")
    labels = torch.from_numpy(val.labels()).float()
    print(machine())

    model = build_classifier("resnet101", labels.shape[1]).train()
    handle = apply_spectral_norm(model, 9)
    modules = [module for module in model.modules() if isinstance(module, SpectralWeight)]
    watched = [model.trunk.get_submodule(name) for name in WATCHED]
    weights = sum(module.trained_weight.numel() for module in modules)

    def train(lr, steps):
        optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
        hook = handle.attach(optimizer)
        for _ in range(steps):
            chosen = torch.randint(len(images), (16,))
            loss = F.binary_cross_entropy_with_logits(model(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield float(loss.detach())
        hook.remove()

    for _ in train(1e-3, 30):
        pass
    at_every_step, of_all, iterated = [], [], []
    for step, loss in enumerate(train(arguments.lr, arguments.steps), start=1):
        at_every_step.append(max(errors(watched)))
        iterated.append(
            sum(m.trained_weight.numel() for m in modules if not m.spectral_norm.rest.rested)
            / weights
        )
        if step % 50 == 0:
            of_all.append(max(errors(modules)))
            print(
                f"step {step}: loss {loss:.4f}, largest error of the watched so far "
                f"{max(at_every_step):.1e}, of all weights now {of_all[-1]:.1e}, iterated in the "
                f"last 50 steps {sum(iterated[-50:]) / 50:.1%}",
                flush=True,
            )
    handle.refresh()
    resting = iterated[CALM_STEPS + 2 :]
    print_table(
        ["largest relative error of sigma", f"Adam at {arguments.lr:g}, {arguments.steps} steps"],
        [
            [f"{len(watched)} weights, every step", f"{max(at_every_step):.1e}"],
            [f"all {len(modules)} weights, every 50th step", f"{max(of_all):.1e}"],
            ["all weights at the end, after refresh()", f"{max(errors(modules)):.1e}"],
            ["iterated at a step, once they may rest", f"{sum(resting) / len(resting):.1%}"],
        ],
    )


if __name__ == "__main__":
    main()
