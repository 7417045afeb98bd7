"""Hostile texts of any size for every parser of foreign text, and what reading them costs.

``parsers`` lists the parsers, ``shapes`` makes texts out of what a parser takes for a delimiter, ``counting`` counts the
instructions under valgrind.  ``python -m tests.faults.growth`` looks for slow ones with other seeds, at larger sizes.
"""
