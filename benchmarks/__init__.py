"""How fast the daemon is beside others and beside its bare kernels; `python -m benchmarks --help`.

What is measured, and what came out, stands in docs/performance.md.
"""
