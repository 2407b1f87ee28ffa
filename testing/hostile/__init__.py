"""What strangers may send, made from seeds: ``sounds`` (audio files), ``uploads`` (runs), ``texts`` (markup, scripts).

``worker`` feeds the files to the loaders in a process of its own and measures it. ``python -m benchmarks.hostile``
prints the figures; ``tests/test_safe_*.py`` hold them to their limits.
"""
