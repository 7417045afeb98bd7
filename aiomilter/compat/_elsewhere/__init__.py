"""A directory for the ``PYTHONPATH`` of processes that a program starts: modules with pymilter's names.

If pymilter is installed they give way to it; otherwise they become aiomilter's.  Nothing in here is imported by aiomilter.
"""
