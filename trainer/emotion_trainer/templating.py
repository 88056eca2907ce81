"""Pages made from the templates in `templates/`."""

import re
import textwrap
from typing import Final

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from numpy.typing import NDArray

WIDTH: Final = 100
ABSENT: Final = "-"
NO_BREAK: Final = "\0"


def render(template: str, **values: object) -> str:
    """Fill a template; a name without a value is an error."""
    return _environment().get_template(template).render(values)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("emotion_trainer"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "figure": _figure,
        "kilobytes": _kilobytes,
        "percent": _percent,
        "shares": _shares,
        "wrapped": _wrapped,
        "zip": zip,
    }
    return environment


def _figure(value: float | None, form: str) -> str:
    """A number in Python's format, or a dash where there is none."""
    return ABSENT if value is None else format(value, form)


def _kilobytes(size: int) -> str:
    return f"{size / 1000:,.0f} KB"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _shares(counts: NDArray[np.int64]) -> list[float]:
    """Shares of the total; zeros if the total is zero."""
    return list(counts / max(1, counts.sum()))


def _wrapped(text: str) -> str:
    """Markdown with its paragraphs and list items filled to the width."""
    text = text.replace(" %", f"{NO_BREAK}%")  # a share stays on one line
    blocks = re.split(r"\n{2,}|\n(?=- )", text.strip())
    joints = re.findall(r"\n{2,}|\n(?=- )", text.strip())
    filled = [
        textwrap.fill(
            " ".join(block.split()),
            WIDTH,
            subsequent_indent="  " if block.startswith("- ") else "",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for block in blocks
    ]
    pieces = [filled[0]]
    for joint, block in zip(joints, filled[1:], strict=True):
        pieces += [joint, block]
    return "".join(pieces).replace(NO_BREAK, " ") + "\n"
