"""Losses of CLIP-ReID (Li et al., 2023): supervised contrastive, identity, triplet and image-to-text.

`weights` (N,) are those of the images (generated ones may count less); the result is the weighted mean, in float32. None weighs all alike.
"""

import torch
from torch import Tensor
from torch.nn import functional


def weighted_mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """Mean of (N,) values; weights that are all zero give zero."""
    if weights is None:
        return values.mean()
    return (values * weights).sum() / weights.sum().clamp_min(torch.finfo(values.dtype).tiny)


def supervised_contrastive(
    anchors: Tensor,
    others: Tensor,
    anchor_labels: Tensor,
    other_labels: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Stage 1: mean over anchors (N, D) of -log softmax over `others` (M, D), averaged over those of the same identity.

    Features are not normalised and the temperature is 1, as in the authors' training.
    """
    log_probability = functional.log_softmax(anchors.float() @ others.float().T, dim=1)
    same = (anchor_labels[:, None] == other_labels[None]).to(log_probability.dtype)
    return weighted_mean(-(same * log_probability).sum(dim=1) / same.sum(dim=1), weights)


def hard_triplet(
    features: Tensor, labels: Tensor, margin: float, weights: Tensor | None = None
) -> Tensor:
    """Batch-hard triplet loss on Euclidean distances of (N, D) features, not normalised; any number of images per identity.

    A batch of one identity has no negatives and gives zero.
    """
    features = features.float()
    squares = features.square().sum(1)
    distance = (
        (squares[:, None] + squares[None] - 2 * features @ features.T).clamp_min(1e-12).sqrt()
    )
    same = labels[:, None] == labels[None]
    farthest_positive = distance.masked_fill(~same, -torch.inf).amax(dim=1)
    nearest_negative = distance.masked_fill(same, torch.inf).amin(dim=1)
    return weighted_mean(functional.relu(farthest_positive - nearest_negative + margin), weights)


def identity(
    logits: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None = None
) -> Tensor:
    """Label-smoothed cross-entropy over all identities, for ID heads and for image-to-text logits."""
    return weighted_mean(
        functional.cross_entropy(
            logits.float(), labels, label_smoothing=smoothing, reduction="none"
        ),
        weights,
    )
