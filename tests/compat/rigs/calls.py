"""Play scenes of ``tests.compat.plays`` in the interpreter that has pymilter.

A line asks: the scene's name and its arguments, as a Python literal; a line answers, in the same way.
"""

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Self

from tests.compat.plays import play


class Pymilter:
    """A process that has pymilter, and nothing of ours but the scenes.

    Args:
        python: Its interpreter.
    """

    def __init__(self, python: Path) -> None:
        self._process = subprocess.Popen(
            [str(python), "-W", "ignore", "-m", "tests.compat.rigs.calls"],
            cwd=Path(__file__).parents[3],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate()

    def play(self, scene: str, *arguments: object) -> object:
        """Return what a scene returned there."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(ascii((scene, *arguments)), file=self._process.stdin, flush=True)
        return ast.literal_eval(self._process.stdout.readline())


def _module(name: str) -> ModuleType:
    return importlib.import_module(name)


def main() -> None:
    """Answer until there are no more questions."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what pymilter prints is no answer
    for line in sys.stdin:
        print(ascii(play(_module, *ast.literal_eval(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
