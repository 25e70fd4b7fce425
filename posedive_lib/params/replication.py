"""replication/params.yaml: which worlds, data sets and arms `make replication` runs."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from posedive_lib.params.kinds import DatasetNames, Section, Seeds, StudyArm, Text, distinct


class Replication(Section):
    """The frozen study, and where it runs again."""

    study: Text
    worlds: Annotated[Seeds, Field(min_length=2)]
    datasets: Annotated[DatasetNames, Field(min_length=1)]
    arms: Annotated[list[StudyArm], AfterValidator(distinct)]

    @model_validator(mode="after")
    def _with_a_baseline(self) -> Self:
        if not {"real", "pose-dive"} <= set(self.arms):
            raise ValueError("must have real and pose-dive among its arms")
        if "folder" in self.datasets:
            raise ValueError("must have data sets of the mini world, and folder is none")
        return self
