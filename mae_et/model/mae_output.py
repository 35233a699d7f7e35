"""What a forward pass of a masked autoencoder returns."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor


class MAEOutput(NamedTuple):
    """The result of a forward pass on N images of L patches, R of which have predictions."""

    loss: Tensor
    """(): mean squared error over the masked patches that were decoded."""
    mask: Tensor
    """(N, L) bool, True where masked."""
    shuffled: Tensor
    """(N, R, P): predicted targets of R patches, in the order in which they were decoded."""
    order: Tensor
    """(N, R): the index of each of these patches in the grid."""

    @property
    def prediction(self) -> Tensor:
        """(N, L, P): predicted targets in the order of the grid, NaN for patches not decoded."""
        num_values = self.shuffled.shape[-1]
        prediction = self.shuffled.new_full((*self.mask.shape, num_values), math.nan)
        return prediction.scatter(1, self.order[..., None].expand_as(self.shuffled), self.shuffled)
