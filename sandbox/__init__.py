"""Open stand-ins for remote systems, written from the vendors' published contracts and from nothing of ours.

Each one is a program of its own (`python -m sandbox.mirakl`), keeps its state in memory, runs on a clock that
can be moved, and can be told to misbehave. None imports `shared` or `services`.
"""
