"""Addresses at which something is served."""

Address = tuple[str, int]
"""Host and port."""


def authority(address: Address) -> str:
    """The address as it stands in URLs."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
