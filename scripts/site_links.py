"""Links of the documentation site to files outside docs/ lead to the repository's pages.

A hook of mkdocs (https://www.mkdocs.org/user-guide/configuration/#hooks): pages link to files such
as ../SECURITY.md relatively, as they are read in a checkout.
"""

import re
from typing import Any

OUTSIDE = re.compile(r"(?<=\]\()\.\./(?P<path>[^)#]+)")


def on_page_markdown(markdown: str, config: Any, **_: object) -> str:  # noqa: ANN401  # mkdocs'
    """Replace relative links to files outside docs/ by links to the repository."""
    return OUTSIDE.sub(rf"{config.repo_url}/blob/main/\g<path>", markdown)
