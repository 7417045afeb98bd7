"""The table of findings in the page on the doctor, made from the checks: ``python -m tests.help.findings`` writes it."""

import re
import textwrap
from typing import Final

from aiomilter._doctor.checks import MODULES
from tests.help.pages import PAGES

__all__ = ["table", "written"]

_BETWEEN: Final = re.compile(r"(?<=\.\. findings\n).*?(?=\.\. end of findings)", re.DOTALL)


def table() -> str:
    """Return all findings, by the modules that make them."""
    lines = [""]
    for module in MODULES:
        title = (module.__doc__ or "").partition("\n")[0].rstrip(".")
        lines += [*textwrap.wrap(f"**{title}**", 120, break_on_hyphens=False), ""]
        for word, text in module.WORDS.items():
            lines += [f"``{word}``", *textwrap.wrap(f"{text}.", 116, initial_indent="    ", subsequent_indent="    ")]
        lines.append("")
    return "\n".join(lines) + "\n"


def written() -> str:
    """Return what the page has."""
    found = _BETWEEN.search(PAGES["doctor"].read_text("utf-8"))
    assert found is not None
    return found[0]


if __name__ == "__main__":
    page = PAGES["doctor"]
    page.write_text(_BETWEEN.sub(lambda _: table(), page.read_text("utf-8")), "utf-8")
