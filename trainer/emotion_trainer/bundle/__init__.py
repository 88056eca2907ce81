"""Selection of models for the bundle, their ensemble, and the model card."""
