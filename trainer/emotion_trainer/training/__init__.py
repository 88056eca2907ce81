"""Training of one network by one recipe, in a run folder."""
