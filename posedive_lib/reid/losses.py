"""Losses of CLIP-ReID (Li et al., 2023): contrastive, identity, triplet and image-to-text.

`weights` (N,) are those of the images: generated ones may count less. None weighs all alike.
The result is the weighted mean, in float32.
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
    anchors: Tensor, others: Tensor, labels: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Stage 1, L_i2t and L_t2i: mean over anchors (N, E) of -log softmax over `others` (N, E).

    labels (N,): identities of both. Per anchor, the others of its identity are averaged. Features
    are not normalised and the temperature is 1, as in the authors' training.
    """
    log_probability = functional.log_softmax(anchors.float() @ others.float().T, dim=1)  # (N, N)
    same = (labels[:, None] == labels[None]).to(log_probability.dtype)
    return weighted_mean(-(same * log_probability).sum(dim=1) / same.sum(dim=1), weights)


def hard_triplet(
    features: Tensor, labels: Tensor, margin: float, weights: Tensor | None = None
) -> Tensor:
    """L_tri, batch-hard, on Euclidean distances of (N, D) features that are not normalised.

    An identity may have any number of images. A batch of one identity has no negatives: zero.
    """
    features = features.float()
    squares = features.square().sum(1)
    squared = squares[:, None] + squares[None] - 2 * features @ features.T  # (N, N)
    distance = squared.clamp_min(1e-12).sqrt()  # at zero the root has no finite gradient
    same = labels[:, None] == labels[None]
    farthest_positive = distance.masked_fill(~same, -torch.inf).amax(dim=1)
    nearest_negative = distance.masked_fill(same, torch.inf).amin(dim=1)
    return weighted_mean(functional.relu(farthest_positive - nearest_negative + margin), weights)


def identity(
    logits: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None = None
) -> Tensor:
    """L_id and L_i2tce: label-smoothed cross-entropy of logits (N, identities)."""
    each = functional.cross_entropy(
        logits.float(), labels, label_smoothing=smoothing, reduction="none"
    )
    return weighted_mean(each, weights)
