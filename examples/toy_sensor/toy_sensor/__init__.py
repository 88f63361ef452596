"""A ring of sonars, one token each."""
