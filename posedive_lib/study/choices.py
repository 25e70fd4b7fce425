"""The choices that the paper leaves open: what it says, what the active study does, and what else can be chosen.

Values are read from the parameters, so that this table cannot drift away from them.
"""

import json
from dataclasses import dataclass

import pandas as pd

from posedive_lib.errors import StudyError


@dataclass(frozen=True)
class Choice:
    """A choice: `parameters` (dotted names) hold ours; without any it is made in the code, and `ours` says it."""

    topic: str
    paper: str
    parameters: tuple[str, ...]
    why: str
    ours: str = ""


CHOICES = (
    Choice(
        "prediction type",
        "noise (Eq. 1); schedule not given",
        ("generator.prediction_type", "generator.zero_snr", "generator.snr_gamma"),
        "the lineage's choice; epsilon stays selectable",
    ),
    Choice(
        "fusion of the guiders",
        "concatenated along channels, added to the projected noise",
        ("generator.guider_widths",),
        "one guider per condition; their widths sum to the U-Net's first width",
    ),
    Choice(
        "CLIP tokens of the reference",
        "image embeddings of the CLIP encoder",
        ("generator.clip_tokens",),
        "patches tell places apart; a pooled embedding tells every pixel the same",
    ),
    Choice(
        "condition dropout",
        "not given",
        ("generator.condition_dropout",),
        "per sample, with the same null embedding in training and sampling",
    ),
    Choice(
        "token dropout",
        "none named",
        ("generator.token_dropout",),
        "without it the CLIP tokens carry the person and reference attention nothing",
    ),
    Choice(
        "sampling",
        "not given",
        ("generator.sampling.steps", "generator.sampling.guidance"),
        "few DDIM steps suffice at this size",
    ),
    Choice(
        "viewpoints",
        "not in the supplement",
        ("augment.azimuth", "augment.elevation"),
        "uniform, as reported of the main paper",
    ),
    Choice(
        "camera",
        "not given",
        ("conditions.focal", "conditions.depth_near", "conditions.depth_far"),
        "perspective, re-centred on the person; depth over a fixed metric range keeps the scale cue",
    ),
    Choice(
        "confidence of a target, σ(I_tar)",
        "of the target image",
        (),
        "a new target has no photo",
        "pose estimator on a neutral rendering of the target body",
    ),
    Choice(
        "body shape of a target",
        "not given",
        (),
        "the target has to be this person",
        "shape coefficients of the reference person",
    ),
    Choice(
        "camera of a generated image",
        "not given",
        (),
        "it has the reference's colours and noise",
        "inherited from the reference",
    ),
    Choice(
        "key points of the filter",
        "K not given",
        ("augment.keypoints",),
        "face points would reject every photo from behind",
    ),
    Choice(
        "thresholds of the filter",
        "τ_gen 0.6 is best; others not given",
        ("augment.tau_ref", "augment.tau_tar", "augment.epsilon_gen", "augment.tau_gen"),
        "on the scale of this pose estimator",
    ),
    Choice(
        "MSMT17-S (Cam)",
        "disjoint angles; lists not published",
        ("splits.cam.train_max_azimuth", "splits.cam.test_min_azimuth"),
        "the test is every viewpoint that training leaves out",
    ),
    Choice(
        "MSMT17-S (Pose)",
        "disjoint poses; lists not published",
        ("splits.pose.clusters", "splits.pose.train_clusters"),
        "clusters of root-relative joints",
    ),
    Choice(
        "CUHK03 protocol",
        "not given",
        (),
        "the one used today",
        "767/700, labeled and detected apart",
    ),
    Choice(
        "controls",
        "none in the supplement",
        ("study.control_arms", "study.control_datasets", "study.generated_control_datasets"),
        "to tell diversity from volume, and images from a perfect generator's",
    ),
    Choice(
        "seeds",
        "single runs",
        ("reid.seeds",),
        "paired over arms; fewer than six cannot reach p = 0.05",
    ),
)


def choices(P) -> pd.DataFrame:
    """Columns choice, paper says, ours, parameters, why."""
    values = P.model_dump()
    rows = [
        {
            "choice": c.topic,
            "paper says": c.paper,
            "ours": c.ours or ", ".join(_value(values, name) for name in c.parameters),
            "parameters": " ".join(c.parameters) or "–",
            "why": c.why,
        }
        for c in CHOICES
    ]
    return pd.DataFrame(rows)


def _value(values: dict, name: str) -> str:
    for part in name.split("."):
        if part not in values:
            raise StudyError(
                f"The table of choices names the parameter {name}, which does not exist."
            )
        values = values[part]
    return f"{name.rsplit('.', 1)[-1]} {values if isinstance(values, str) else json.dumps(values).replace(chr(34), '')}"
