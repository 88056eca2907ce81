"""Comparison of runs: MLflow, plots and the HTML report."""
