"""Losses of CLIP-ReID (Li et al., 2023): supervised contrastive, identity, triplet and image-to-text."""

import torch
from torch.nn import functional


def supervised_contrastive(anchors: torch.Tensor, others: torch.Tensor, anchor_labels: torch.Tensor, other_labels: torch.Tensor) -> torch.Tensor:
    """Stage 1: mean over anchors (N, D) of -log softmax over `others` (M, D), averaged over those of the same identity.

    Features are not normalised and the temperature is 1, as in the authors' training.
    """
    log_probability = functional.log_softmax(anchors @ others.T, dim=1)
    same = (anchor_labels[:, None] == other_labels[None]).to(log_probability.dtype)
    return -((same * log_probability).sum(dim=1) / same.sum(dim=1)).mean()


def hard_triplet(features: torch.Tensor, labels: torch.Tensor, margin: float) -> torch.Tensor:
    """Batch-hard triplet loss on Euclidean distances of (N, D) features, not normalised; any number of images per identity."""
    squared = (features.square().sum(1)[:, None] + features.square().sum(1)[None] - 2 * features @ features.T).clamp_min(1e-12)
    distance = squared.sqrt()
    same = labels[:, None] == labels[None]
    farthest_positive = distance.masked_fill(~same, -torch.inf).amax(dim=1)
    nearest_negative = distance.masked_fill(same, torch.inf).amin(dim=1)
    return functional.relu(farthest_positive - nearest_negative + margin).mean()


def identity(logits: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Label-smoothed cross-entropy over all identities, for ID heads and for image-to-text logits."""
    return functional.cross_entropy(logits, labels, label_smoothing=smoothing)
