"""Learning rates per epoch of the two stages of CLIP-ReID (and of the ResNet baseline, whose schedule has the shape of stage 2).

Epochs count from 1, as published. A run of fewer steps walks through the same epochs faster: `epoch_of` says in which a step lies.
"""

import math
from bisect import bisect_right


def stage1_rate(epoch: int, schedule) -> float:
    """Linear warm-up from `warmup_rate` over `warmup_epochs`, then a cosine over all epochs down to `final_rate`."""
    if epoch < schedule.warmup_epochs:
        return (
            schedule.warmup_rate
            + epoch * (schedule.learning_rate - schedule.warmup_rate) / schedule.warmup_epochs
        )
    cosine = (1 + math.cos(math.pi * min(epoch, schedule.epochs) / schedule.epochs)) / 2
    return schedule.final_rate + (schedule.learning_rate - schedule.final_rate) * cosine


def stage2_rate(epoch: int, schedule) -> float:
    """Linear warm-up from the share `warmup_factor` over `warmup_epochs`, then times `gamma` at each of `milestones`."""
    rate = schedule.learning_rate * schedule.gamma ** bisect_right(schedule.milestones, epoch)
    if epoch < schedule.warmup_epochs:
        done = epoch / schedule.warmup_epochs
        rate *= schedule.warmup_factor * (1 - done) + done
    return rate


def steps_of(schedule, images: int, batch_size: int) -> int:
    """Steps of the whole training: `schedule.steps`, or where that is None as many as pass through the images once per epoch."""
    return schedule.steps or schedule.epochs * math.ceil(images / batch_size)


def epoch_of(step: int, steps: int, epochs: int) -> int:
    """The epoch (1, …, epochs) in which step 0, …, steps - 1 lies."""
    return 1 + step * epochs // steps
