"""Memory of a training."""
