"""Shared fixtures of tests, benchmarks and examples: servers with a wire format, synthetic runs and files.

Nothing in ``mpar2``, ``analysis``, ``pages`` or ``training`` imports from here.
"""
