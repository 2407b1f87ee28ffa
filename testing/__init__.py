"""Fixtures that tests, benchmarks and examples share: servers that speak a wire format, runs and files made on purpose.

Nothing in ``mpar2``, ``analysis``, ``pages`` or ``training`` imports from here.
"""
