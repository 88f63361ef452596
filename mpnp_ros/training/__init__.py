"""Training on cached tokens and states: links, heads and readers; evaluation; cost."""
