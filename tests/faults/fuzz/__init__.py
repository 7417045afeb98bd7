"""Octets chosen by what they reach: ``python -m tests.faults.fuzz TARGET... [--seconds N] [--keep]``.

``targets`` says what is tried and what must hold, ``corpus/TARGET.txt`` holds the inputs that reach something new, a line of
hexadecimal digits each.  Atheris, which is libFuzzer, finds others.
"""
