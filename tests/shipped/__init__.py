"""Files that are made from the code and shipped with it: manual pages and completion for shells.

``python -m tests.shipped`` writes them anew; a test fails when that was forgotten.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from aiomilter._cli import _parser
from tests.shipped import completion, manual

FOLDER: Final = Path(__file__).parent.parent.parent / "aiomilter" / "help"


def made() -> Mapping[Path, str]:
    """Return the text of each file."""
    pages = manual.pages(_parser())
    # A parser of its own: what completes an argument is noted in it.
    scripts = completion.scripts(_parser())
    return {FOLDER / "man" / name: text for name, text in pages.items()} | {
        FOLDER / "completion" / name: text for name, text in scripts.items()
    }
