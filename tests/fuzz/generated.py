"""The number of generated cases."""

from collections.abc import Callable

from hypothesis import HealthCheck, settings


def many(cases: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Settings for so many generated cases, with which a fixture may be shared."""
    return settings(
        max_examples=cases,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
