"""Scaling of families: a factor on all widths, one on all depths, or a budget."""

import math
from collections.abc import Callable
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from emotion_trainer.errors import RecipeError

# The vector units that run int8 kernels take eight channels or a multiple of them at a time.
CHANNEL_STEP: Final = 8
MIN_WIDTH: Final = 0.125
MAX_WIDTH: Final = 4.0
SAME_WIDTH: Final = 1.01
TOLERANCE: Final = 0.05


class ScalableSettings(BaseModel):
    """Settings that all families which start from random weights share."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    family: str
    width: float = Field(default=1.0, gt=0.0, description="Factor on all channels.")
    depth: float = Field(default=1.0, gt=0.0, description="Factor on the layers of each stage.")
    budget_mmac: float | None = Field(
        default=None, gt=0.0, description="Million multiply-accumulates; `width` is solved from it."
    )
    dropout: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="Share of the pooled features set to 0."
    )

    @model_validator(mode="after")
    def _width_is_given_once(self) -> "ScalableSettings":
        if self.budget_mmac is not None and self.width != 1.0:
            raise ValueError("give width or budget_mmac, not both")
        return self

    def __str__(self) -> str:
        return f"{self.family} of width {self.width:.3g}"

    def channels(self, base: int) -> int:
        """Scaled channels: the nearest multiple of eight, at least eight."""
        return max(1, _nearest(base * self.width / CHANNEL_STEP)) * CHANNEL_STEP

    def repeats(self, base: int) -> int:
        """Scaled number of layers or blocks, at least one."""
        return max(1, _nearest(base * self.depth))


def solve_width(mmac: Callable[[float], float], budget: float) -> float:
    """Find the width whose cost is nearest to the budget, in million multiply-accumulates.

    Args:
        mmac: the cost at a width; it grows in steps, since channels are multiples of eight.
        budget: the cost to meet.

    Raises:
        RecipeError: no width costs the budget within 5 %.
    """
    low, high = MIN_WIDTH, MAX_WIDTH
    while high / low > SAME_WIDTH:
        middle = math.sqrt(low * high)
        if mmac(middle) <= budget:
            low = middle
        else:
            high = middle
    costs = {width: mmac(width) for width in (low, high)}
    width = min(costs, key=lambda width: abs(costs[width] - budget))
    if abs(costs[width] - budget) > TOLERANCE * budget:
        raise RecipeError(
            f"model.budget_mmac: no width costs {budget:g} MMAC; the nearest cost "
            f"{costs[low]:.2f} and {costs[high]:.2f}"
        )
    return width


def _nearest(number: float) -> int:
    return math.floor(number + 0.5)
