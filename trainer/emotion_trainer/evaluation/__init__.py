"""Figures of trained models on labelled faces."""
