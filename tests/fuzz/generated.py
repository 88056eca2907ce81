"""The number of generated cases, which are the same in every run."""

from collections.abc import Callable

from hypothesis import HealthCheck, settings


def many(cases: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Settings for so many generated cases: deterministic and without a deadline."""
    return settings(
        max_examples=cases,
        derandomize=True,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
