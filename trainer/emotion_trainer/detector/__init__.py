"""The daemon's face detector: a tiny fully convolutional network.

Each training step has new scenes, composed of photos, face crops and backgrounds. The labels come
from another detector, or from WIDER FACE's annotators.
"""
