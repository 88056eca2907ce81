"""Keeps secrets out of logs and printed settings."""


def without_password(url: str) -> str:
    """The address with its password masked, fit for logs."""
    scheme, _, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    if not at:
        return url
    return f"{scheme}://{credentials.partition(':')[0]}:***@{host}"
