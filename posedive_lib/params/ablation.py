"""ablation/params.yaml: how `make ablation` trains and measures the generator's variants."""

from typing import Annotated

from pydantic import Field

from posedive_lib.params.kinds import Count, Section, Seeds, Text


class Ablation(Section):
    """The study whose generator it is, and how long and how often each variant is trained."""

    study: Text
    seeds: Annotated[Seeds, Field(min_length=1)]
    steps: Count
    objective_steps: Count
    people: Count
