"""One thing has one name: words of our own that the field has a word for do not come back as names."""

import io
import re
import tokenize
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parent.parent / "aiomilter"
INSTEAD: Final = {
    "Crowd": "ConnectionLimits",
    "Standby": "ConnectionTask",
    "Spare": "SharedTask",
    "Rest": "Continuation",
    "Orders": "Control",
    "Manager": "ServiceManager",
    "Generation": "FactoryLifespan",
    "Scene": "Transaction, CheckScenario",
    "Budget": "MemoryLimit",
    "budget": "limit",
    "Keeper": "Reader",
    "_given": "timed_out",
    "_GONE": "NOT_EXPECTED",
    "_remembered": "deferred",
    "_of_client": "connection_deferred",
    "_plain": "active",
    "_short_way": "dispatch",
    "_asked": "dispatch",
    "_asks": "dispatch",
    "_steps": "dispatch",
    "lends": "macros_are_inert",
    "lent": "macro_prefix",
    "lends_plainly": "macros_are_inert",
    "remarked": "an event of observe",
    "noted": "an event of observe",
    "Share": "AcceptBalancer",
    "tally": "shared_counts",
}
"""What to write is on the right; it is the same thing that is meant."""
KEPT: Final = {
    "mta/macros.py": {"_given"},
    "message/spool.py": {"Budget", "budget"},
}
"""Where the word has its plain meaning: values that the user has given, a part of memory that messages share."""
WORD: Final = re.compile(r"\w+")


def test_no_name_is_one_that_was_replaced() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text("utf-8")
        words = INSTEAD.keys() - KEPT.get(str(path.relative_to(PACKAGE)), set())
        if words.isdisjoint(WORD.findall(text)):
            continue  # most files: to read their tokens takes long
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NAME and token.string in words:
                found.append(f"{path.name}:{token.start[0]}: {token.string}, not {INSTEAD[token.string]}")
    assert found == []
