"""The page on options, made from the tables: ``python -m tests.help.options`` writes it."""

import re
from pathlib import Path
from typing import Final

from aiomilter._cli.options import RunOptions
from aiomilter._cli.site import SiteOptions
from aiomilter._option_text import reference
from aiomilter.options import Options

__all__ = ["PAGE", "text"]

PAGE: Final = Path(__file__).parents[2] / "aiomilter" / "help" / "options.rst"

_HEAD: Final = """\
Set an option
=============

On the command line::

    aiomilter run filter.py --listen inet:8890@127.0.0.1 --max-recipients 1000 --answer-timeout mail=20

``aiomilter help configuration`` shows a file for them.  In a program:

.. code-block:: python

    from aiomilter import Milter, Stage, serve

    server = serve(Milter, "inet:0@127.0.0.1", max_recipients=1000, answer_timeouts={Stage.MAIL: 20.0})

``serve``, ``run``, ``testing.session`` and ``compat.serve`` take the same options.  A misspelt one is a TypeError that names
the right one, and fails a type check.  A dict of options has the type ``aiomilter.options.ServeOptions``.

"""
_OWN: Final = """\
Of the command only
-------------------

"""


def text() -> str:
    """Return the page as the tables have it."""
    commands = reference(RunOptions) + "\n" + reference(SiteOptions)
    own = re.sub(r"(?m)^\w.*\n-+\n\n", "", commands)  # without the headings of their groups
    return f"{_HEAD}{reference(Options)}\n{_OWN}{own}"


if __name__ == "__main__":
    PAGE.write_text(text(), "utf-8")
