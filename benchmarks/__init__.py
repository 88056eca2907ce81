"""Speed of the daemon, its bare kernels and another package; `python -m benchmarks --help`.

What is measured, and what came out, stands in docs/performance.md.
"""
