"""See the image sizes of a model's convolutions by running it on an example."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from snojoe.spectral_norm.operator_norm import Shape


def convolution_shapes(
    model: nn.Module, example_input: Tensor | None
) -> dict[nn.Module, tuple[Shape, Shape]]:
    """Return the input and output shape (channels, height, width) of each convolution.

    Runs the model once in eval mode without gradients, and changes nothing. A convolution that is
    called several times has the shapes of its first call; one that is not called is missing.

    Raises
    ------
    ValueError
        If there is no example.
    """
    if example_input is None:
        raise ValueError("example_input=None: the operator norm needs one to see image sizes")
    shapes: dict[nn.Module, tuple[Shape, Shape]] = {}

    def record(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        shapes.setdefault(module, (_image(inputs[0]), _image(output)))

    hooks = [
        module.register_forward_hook(record)
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    ]
    try:
        with modes_kept(model), torch.no_grad():
            model.eval()
            model(example_input)
    finally:
        for hook in hooks:
            hook.remove()
    return shapes


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Give every module back its train or eval mode at the end."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _image(batch: Tensor) -> Shape:
    channels, height, width = batch.shape[-3:]
    return channels, height, width
