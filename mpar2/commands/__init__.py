"""The commands of ``mpar2``: one module for each, found by name. The entry points ``mpar2.commands`` name others.

A module has a docstring, whose first line is its help; ``configure(parser)``, which adds its options; and
``run(options) -> int``, which returns the exit status. Heavy imports belong inside ``run``. A file of the package
whose name begins with ``_`` is not a command; ``_`` inside a name is written ``-`` on the command line.
"""
