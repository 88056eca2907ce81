"""Settings of pretrained weights: the file and its licence."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class InitialWeights(BaseModel):
    """A file of weights and their licence."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    weights: Path | None = Field(
        default=None, description="A file by `convert`; unset: random weights."
    )
    licence: str | None = Field(
        default=None, description="Of the weights, for the model cards; required with weights."
    )

    @model_validator(mode="after")
    def _weights_have_a_licence(self) -> Self:
        if self.weights is not None and self.licence is None:
            raise ValueError("licence is required with weights")
        return self
