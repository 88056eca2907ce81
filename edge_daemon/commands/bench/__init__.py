"""`edge-daemon bench`: speed of the pipeline on this machine, and cost of a frame."""
