"""The face detector that the daemon carries: a tiny fully convolutional network.

It learns from new scenes in every step, composed of photos, face crops and backgrounds. Its
labels come from another detector, or from WIDER FACE's annotators.
"""
