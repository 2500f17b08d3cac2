"""Powers of two, by which a float is scaled exactly."""

import torch
from torch import Tensor


def power_of_two(arrays: Tensor) -> Tensor:
    """Return powers of two (k, 1, 1) next to the largest entries of arrays (k, ..., ...).

    What is divided by them has entries of up to 2, whose squares neither overflow nor all underflow
    as float32s do beyond 1e19 and 1e-19. 1 for an array of zeros.
    """
    largest = arrays.abs().amax(dim=(1, 2), keepdim=True)
    mantissa, _ = torch.frexp(largest)  # of [1/2, 1)
    return torch.where(largest > 0, largest / (2 * mantissa), 1.0)
