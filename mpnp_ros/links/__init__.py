"""Latent connections: what carries a modality into the frozen language model, its file form and store."""
