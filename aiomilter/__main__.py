"""``python -m aiomilter`` is the command ``aiomilter``."""

import sys

from aiomilter._cli import main

if __name__ == "__main__":
    sys.exit(main())
