"""Canonical correlation analysis as a layer: both views are projected so that they correlate as much as they can.

Source: Dorfer et al., "End-to-End Cross-Modality Retrieval with CCA Projections and Pairwise Ranking Loss", IJMIR
2018, as the studies use it (fact sheet of passage retrieval, Section 6).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

RIDGE = 1e-3  # as published: added to the diagonals of both covariances, and of the matrix whose eigenvectors are taken


class Projections(NamedTuple):
    """Means (d,) and matrices (d, d) of both views, float64: ``(x - mean) @ matrix``."""

    mean_1: Tensor
    matrix_1: Tensor
    mean_2: Tensor
    matrix_2: Tensor


def canonical_projections(first: Tensor, second: Tensor, ridge: float = RIDGE) -> Projections:
    """Of two views (B, d) of the same items, in float64, differentiable.

    ``ridge`` is that of the covariances, in the views' own units: where it is large beside their variances, directions
    of which a batch knows little are not blown up.  Columns are ordered by rising correlation.  Raises ValueError for
    fewer items than dimensions: their covariances would say nothing.
    """
    x, y = first.double(), second.double()
    count, dimensions = x.shape
    if count <= dimensions:
        raise ValueError(f"{count} items cannot tell the covariance of {dimensions} dimensions")
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    identity = torch.eye(dimensions, dtype=torch.float64, device=x.device)
    cov_x = x.T @ x / (count - 1) + ridge * identity
    cov_y = y.T @ y / (count - 1) + ridge * identity
    cross = x.T @ y / (count - 1)
    root_x, root_y = _inverse_root(cov_x), _inverse_root(cov_y)
    whitened = root_x @ cross @ root_y
    _, vectors_x = torch.linalg.eigh(whitened @ whitened.T + RIDGE * identity)
    _, vectors_y = torch.linalg.eigh(whitened.T @ whitened + RIDGE * identity)
    matrix_x, matrix_y = root_x @ vectors_x, root_y @ vectors_y
    # an eigenvector's sign is arbitrary, and both views must agree on it
    signs = torch.sign(torch.diagonal(matrix_x.T @ cross @ matrix_y)).detach()
    signs = torch.where(signs == 0, torch.ones_like(signs), signs)
    return Projections(mean_x, matrix_x * signs, mean_y, matrix_y)


def _inverse_root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return vectors @ torch.diag(values.rsqrt()) @ vectors.T


class CcaLayer(nn.Module):
    """Projects by the batch's own canonical directions in training, by stored ones in use.

    The stored ones are those of the last batch, as published; :meth:`refine` replaces them by those of many items.
    Nothing here is trained by a gradient, but gradients pass through to what comes before.  Without ``in_training``
    both views stay as they are until they are refined.
    """

    def __init__(self, dimensions: int, ridge: float = RIDGE, in_training: bool = True):
        super().__init__()
        self.ridge, self.in_training = ridge, in_training
        for view in (1, 2):
            self.register_buffer(f"mean_{view}", torch.zeros(dimensions, dtype=torch.float64))
            self.register_buffer(f"matrix_{view}", torch.eye(dimensions, dtype=torch.float64))

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """(B, d) each."""
        if self.training and self.in_training:
            found = canonical_projections(first, second, self.ridge)
            self._store(found)
            one = (first.double() - found.mean_1) @ found.matrix_1
            two = (second.double() - found.mean_2) @ found.matrix_2
            return one.float(), two.float()
        return self.project_first(first), self.project_second(second)

    def project_first(self, values: Tensor) -> Tensor:
        return ((values.double() - self.mean_1) @ self.matrix_1).float()

    def project_second(self, values: Tensor) -> Tensor:
        return ((values.double() - self.mean_2) @ self.matrix_2).float()

    @torch.no_grad()
    def refine(self, first: Tensor, second: Tensor) -> None:
        """Store the projections of many items (n, d), encoders as they are: 25,000 pairs in the source."""
        self._store(canonical_projections(first, second, self.ridge))

    def _store(self, found: Projections) -> None:
        for name, value in found._asdict().items():
            getattr(self, name).copy_(value.detach())
