"""How many cases are generated, and that they are the same ones in every run."""

from collections.abc import Callable

from hypothesis import HealthCheck, settings


def many(cases: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """So many generated cases, always the same, however slow the machine."""
    return settings(
        max_examples=cases,
        derandomize=True,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
