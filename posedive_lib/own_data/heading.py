"""The side a person shows, from a pose estimator's confidences: tells front from back (ours).

A face seen from behind, or an arm behind the body, has a lower confidence; by how much depends on
the estimator. So it is learned from the data set itself: confidences are regressed on the azimuths
of the library views that look most like the key points. Where these are wrong at random, the cue
only gets weaker, never reversed. Its strength is the error on images left out of the regression.
"""

from dataclasses import dataclass

import torch

ENOUGH = 100  # images; with fewer the regression says nothing
RIDGE, FOLDS = 1.0, 5


@dataclass(frozen=True)
class Heading:
    """expected (N, 2): cosine and sine of the azimuth; variance (2,) of the error of that."""

    expected: torch.Tensor
    variance: torch.Tensor

    def __getitem__(self, rows: slice) -> "Heading":
        return Heading(self.expected[rows], self.variance)

    def cost(self, azimuth: torch.Tensor) -> torch.Tensor:
        """Negative log-likelihood (N, M) of azimuths in radians, up to a constant per image."""
        seen = torch.stack([azimuth.cos(), azimuth.sin()], -1)
        return ((seen - self.expected[:, None]).square() / (2 * self.variance)).sum(-1)

    @classmethod
    def learn(cls, confidence: torch.Tensor, azimuth: torch.Tensor) -> "Heading | None":
        """Ridge regression from confidences (N, 17) to rough azimuths (N,) in radians.

        None for fewer than `ENOUGH` images.
        """
        if len(confidence) < ENOUGH:
            return None
        x = confidence.double()
        x = (x - x.mean(0)) / x.std(0).clamp_min(1e-3)
        x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)  # with an intercept
        y = torch.stack([azimuth.cos(), azimuth.sin()], 1).double()
        penalty = RIDGE * torch.eye(x.shape[1], dtype=x.dtype)

        def solve(rows: torch.Tensor) -> torch.Tensor:
            return torch.linalg.solve(x[rows].T @ x[rows] + penalty, x[rows].T @ y[rows])

        fold = torch.arange(len(x)) % FOLDS
        left_out = torch.empty_like(y)
        for k in range(FOLDS):
            left_out[fold == k] = x[fold == k] @ solve(fold != k)
        variance = (left_out - y).square().mean(0).clamp_min(1e-3).float()
        return cls((x @ solve(fold >= 0)).float(), variance)
