"""Cost of spectral normalisation beside torch's own, on a ResNet-101.

    python benchmarks/spectral_norm.py [--rounds 32] [--threads 1] [--lr 1e-5]

A training step (forward, backward, Adam, power iteration) of the plain network, of torch's
parametrisation and of ours, and inference of the plain and the folded network. The variants take
turns in every round, in another order each time; a variant's cost is the mean over the rounds of
its difference from the plain network in the same round, since not every step iterates every weight.
Before, each takes 16 steps that do not count; ours then goes on as after 128 small steps, from when
on weights rest, unless theirs are not small. On a CPU: batch 16, 64 x 64, float32. On a GPU: batch
32, 256 x 256, bfloat16. With one thread on a CPU the clock is the processor time, which other
programs disturb least; otherwise it is the wall clock.
"""

import argparse
import copy
import random
import time
from statistics import mean, median

import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.utils import parametrizations

from snojoe.model.classifier import build_classifier
from snojoe.spectral_norm import apply_spectral_norm, fold_spectral_norm, normalized_weights
from snojoe.spectral_norm.conv_linear import SpectralWeight
from snojoe.spectral_norm.movement import CALM_STEPS

SN_LAYERS = 9
STEPS_BEFORE = 16


class Training:
    """One training step of a model."""

    def __init__(self, model, images, labels, lr, handle=None):
        self.model, self.images, self.labels = model.train(), images, labels
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        if handle is not None:
            handle.attach(self.optimizer)

    def __call__(self):
        with torch.autocast("cuda", torch.bfloat16, enabled=self.images.is_cuda):
            logits = self.model(self.images)
        loss = binary_cross_entropy_with_logits(logits.float(), self.labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


class Inference:
    """One forward pass of a model."""

    def __init__(self, model, images):
        self.model, self.images = model.eval(), images

    @torch.no_grad()
    def __call__(self):
        with torch.autocast("cuda", torch.bfloat16, enabled=self.images.is_cuda):
            self.model(self.images)


def with_torchs(model):
    for name in normalized_weights(model, SN_LAYERS):
        parametrizations.spectral_norm(model.get_submodule(name.removesuffix(".weight")))
    return model


def measure(variants, rounds, clock, device):
    """Return the seconds of each round by variant, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds + 1):
        for name in random.sample(list(variants), len(variants)):
            begin = clock()
            variants[name]()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(clock() - begin)
    return {name: values[1:] for name, values in seconds.items()}


def report(title, seconds, baseline):
    """Print a table and return the cost of each variant over the baseline."""
    print(f"\n{title:<28}{'median ms':>12}{'ratio':>9}{'cost ms':>10}")
    costs = {}
    for name, values in seconds.items():
        pairs = list(zip(values, seconds[baseline], strict=True))
        costs[name] = mean(value - plain for value, plain in pairs)
        ratio = median(value / plain for value, plain in pairs)
        print(f"{name:<28}{median(values) * 1e3:>12.1f}{ratio:>9.3f}{costs[name] * 1e3:>10.1f}")
    return costs


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--lr", type=float, default=1e-5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    random.seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch, size = (32, 256) if device.type == "cuda" else (16, 64)
    one_thread = device.type == "cpu" and arguments.threads == 1
    clock = time.process_time if one_thread else time.perf_counter
    images = torch.randn(batch, 3, size, size, device=device)
    labels = torch.randint(2, (batch, 20), device=device).float()
    plain = build_classifier("resnet101", 20).to(device)
    print(
        f"ResNet-101, {batch} images of {size} x {size}, torch {torch.__version__}, {device}, "
        f"{arguments.threads} threads, {'processor' if one_thread else 'wall'} time, "
        f"{arguments.rounds} rounds, Adam at {arguments.lr:g}"
    )

    ours = copy.deepcopy(plain)
    handle = apply_spectral_norm(ours, SN_LAYERS)
    trainings = {
        "plain": Training(copy.deepcopy(plain), images, labels, arguments.lr),
        "torch spectral_norm": Training(
            with_torchs(copy.deepcopy(plain)), images, labels, arguments.lr
        ),
        "snojoe spectral_norm": Training(ours, images, labels, arguments.lr, handle),
    }
    for _ in range(STEPS_BEFORE):
        for step in trainings.values():
            step()
    for module in ours.modules():
        if isinstance(module, SpectralWeight):
            module.spectral_norm.rest.calm = CALM_STEPS
    seconds = measure(trainings, arguments.rounds, clock, device)
    costs = report("training step", seconds, "plain")
    share = costs["snojoe spectral_norm"] / costs["torch spectral_norm"]
    print(f"our cost / torch's cost = {share:.2f} (wanted: at most 0.45)")

    folded = fold_spectral_norm(copy.deepcopy(ours))
    inferences = {
        "plain": Inference(plain, images),
        "snojoe, folded": Inference(folded, images),
        "snojoe, not folded": Inference(ours, images),
    }
    report("inference", measure(inferences, 2 * arguments.rounds, clock, device), "plain")
    print("folded ratio wanted: 1.00 +- 0.03")


if __name__ == "__main__":
    main()
