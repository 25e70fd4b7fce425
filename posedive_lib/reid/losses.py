"""Losses of CLIP-ReID (Li et al., 2023): contrastive, identity, triplet and image-to-text.

`weights` (N,) are those of the images: generated ones may count less. None weighs all alike.
The result is the weighted mean. All arithmetic is in float32, also under autocast. That would round
the products, and distances of nearly equal features would be lost.
"""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

import torch
from torch import Tensor
from torch.nn import functional

Rest = ParamSpec("Rest")
Loss = Callable[Concatenate[Tensor, Rest], Tensor]


def in_float32(loss: Loss[Rest]) -> Loss[Rest]:
    """A function of tensors, the first one given by position, computed without autocast."""

    @wraps(loss)
    def exact(first: Tensor, *rest: Rest.args, **named: Rest.kwargs) -> Tensor:
        with torch.autocast(first.device.type, enabled=False):
            return loss(first, *rest, **named)

    return exact


def weighted_mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """Mean of (N,) values; weights that are all zero give zero."""
    if weights is None:
        return values.mean()
    return (values * weights).sum() / weights.sum().clamp_min(torch.finfo(values.dtype).tiny)


@in_float32
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


@in_float32
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
    """L_id: label-smoothed cross-entropy of logits (N, identities)."""
    each = functional.cross_entropy(
        logits.float(), labels, label_smoothing=smoothing, reduction="none"
    )
    return weighted_mean(each, weights)


@in_float32
def image_to_text(
    features: Tensor,
    text: Tensor,
    labels: Tensor,
    smoothing: float,
    weights: Tensor | None = None,
) -> Tensor:
    """L_i2tce: `identity` of the dot products of images (N, E) with all prompts' text (P, E)."""
    return identity(features.float() @ text.float().T, labels, smoothing, weights)
