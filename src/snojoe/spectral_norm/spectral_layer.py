"""How a layer comes to compute with another weight than the one that is trained."""

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn


class SpectralLayer(nn.Module):
    """Base of the convolution, linear layer and BatchNorm whose weight is bounded.

    A plain layer becomes a bounded one by a change of its class, in place. Its parameters, hooks
    and names in the state dict stay: the parameter ``weight`` is the one that is trained. Reading
    ``layer.weight`` gives the bounded one, so that the computation of the plain class is the
    right one. Deep copies, pickles and state dicts are those of any module.

    Attributes
    ----------
    plain
        The class whose place this one takes.
    added
        Name of the one attribute that it has in addition: what the bound needs.
    """

    plain: ClassVar[type[nn.Module]]
    added: ClassVar[str]

    @property
    def weight(self) -> Tensor:
        """The weight that the layer computes with, of the parameter's shape and dtype."""
        raise NotImplementedError

    @property
    def trained_weight(self) -> nn.Parameter:
        """The parameter ``weight``, before any bound."""
        return cast(nn.Parameter, self._parameters["weight"])

    @classmethod
    def put_on(cls, layer: nn.Module, added: Any) -> None:
        """Make a plain layer one of this class, in place."""
        layer.__class__ = cls
        setattr(layer, cls.added, added)

    @torch.no_grad()
    def fold(self) -> None:
        """Become a plain layer again, whose parameter is what the layer computed with."""
        self.trained_weight.copy_(self.weight)
        delattr(self, self.added)
        self.__class__ = self.plain  # type: ignore[assignment]
