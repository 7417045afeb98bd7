"""A directory for the ``PYTHONPATH`` of what a program starts: modules of pymilter's names, which look for pymilter.

Where it is installed they give way to it; else they are aiomilter's.  Nothing in here is imported by aiomilter.
"""
