"""Runs programs, each in a process that it forks, so that Python starts once for all of them: python forking.py [MODULE]...

MODULE is imported before, once for all programs.

A request is a line of JSON on standard input.  An object asks for a program: ``argv``, the paths of ``stdin``, ``stdout`` and
``stderr``, ``cwd`` and ``umask`` (below 0 for that of this process); the answer is the number of its process.  A number asks
for the exit status of that process, and is answered when it has ended.
"""

import importlib
import json
import os
import runpy
import sys


def asked():
    """Answer requests; return, in the process that is to run it, the program's arguments."""
    for line in sys.stdin:
        request = json.loads(line)
        if isinstance(request, int):
            answer = os.waitstatus_to_exitcode(os.waitpid(request, 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                return begin(**request)
        print(answer, flush=True)
    return None


def begin(argv, stdin, stdout, stderr, cwd, umask):
    """Have this process look as if it had been started so."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for number, path, how in ((0, stdin, os.O_RDONLY), (1, stdout, flags), (2, stderr, flags)):
        opened = os.open(path, how, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    if umask >= 0:
        os.umask(umask)
    os.chdir(cwd)
    return argv


for module in sys.argv[1:]:
    importlib.import_module(module)
sys.argv = asked()
if sys.argv is not None:
    sys.path[0] = os.path.dirname(sys.argv[0])
    runpy.run_path(sys.argv[0], run_name="__main__")
