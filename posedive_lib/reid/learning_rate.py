"""Learning rates per epoch of the two stages of CLIP-ReID; the ResNet's schedule is as stage 2.

Epochs count from 1, as published. A run of fewer steps walks through the same epochs faster:
`epoch_of` says in which a step lies.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from posedive_lib.params import PromptStage, StepStage


def stage1_rate(epoch: int, schedule: PromptStage) -> float:
    """Linear warm-up from `warmup_rate` over `warmup_epochs`, then a cosine to `final_rate`."""
    if epoch < schedule.warmup_epochs:
        rise = schedule.learning_rate - schedule.warmup_rate
        return schedule.warmup_rate + epoch * rise / schedule.warmup_epochs
    # the cosine counts the warm-up's epochs, as in the authors' code
    cosine = (1 + math.cos(math.pi * min(epoch, schedule.epochs) / schedule.epochs)) / 2
    return schedule.final_rate + (schedule.learning_rate - schedule.final_rate) * cosine


def stage2_rate(epoch: int, schedule: StepStage) -> float:
    """Linear warm-up from the share `warmup_factor`, then times `gamma` at each milestone."""
    rate = schedule.learning_rate * schedule.gamma ** bisect_right(schedule.milestones, epoch)
    if epoch < schedule.warmup_epochs:
        done = epoch / schedule.warmup_epochs
        rate *= schedule.warmup_factor * (1 - done) + done
    return rate


def steps_of(schedule: PromptStage | StepStage, images: int, batch_size: int) -> int:
    """`schedule.steps`, or where that is None, once through the images per epoch."""
    return schedule.steps or schedule.epochs * math.ceil(images / batch_size)


def epoch_of(step: int, steps: int, epochs: int) -> int:
    """The epoch (1, …, epochs) in which step 0, …, steps - 1 lies."""
    return 1 + step * epochs // steps
