"""Chooses the reader of the protocol: the compiled one where it was built, the one in Python elsewhere.

Both bring the same batches, with the same errors.  :mod:`aiomilter.wire.reader` is the one to read.  ``AIOMILTER_PURE=1`` in
the environment has it used anyway.

Source: ``benchmarks gates`` counts the instructions of both.
"""

import os
from typing import Final

from aiomilter.wire.reader import read

__all__ = ["COMPILED", "read"]

_compiled = False
if os.environ.get("AIOMILTER_PURE", "0") in ("", "0"):
    try:
        from aiomilter.wire._reader import read

        _compiled = True
    except ImportError:
        pass  # installed without a C compiler

COMPILED: Final = _compiled
"""Whether the reader is the compiled one."""
