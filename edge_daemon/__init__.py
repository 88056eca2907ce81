"""Watches a camera, recognises seven facial emotions, and publishes only the results."""

__version__ = "0.1.0"
