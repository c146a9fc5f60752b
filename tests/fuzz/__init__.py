"""Differential fuzzing: the same drawn line of code, run on PyTorch and on tensorgrad.

``values``: tensors of drawn numbers; ``compare``: runs a line on both and tells the difference;
``arguments``: how arguments are drawn; ``specs``: the table of functions; ``programs``: sequences
of statements; ``python -m tests.fuzz`` runs as many cases as asked for.
"""
