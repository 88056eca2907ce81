"""`edge-daemon bench`: how fast this machine runs the pipeline, and what a frame costs."""
