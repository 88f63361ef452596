"""Training latent connections on cached tokens and states; evaluation; cost."""
