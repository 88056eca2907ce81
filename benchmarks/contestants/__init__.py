"""The contestants. Each is a process of its own that runs a round on request.

A module of this package has one function, `measure(case) -> Round`. `fer` runs in an environment
without the daemon, so what it imports is the standard library, OpenCV and fer.
"""
