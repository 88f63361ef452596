"""Streets, traffic and people of the world, and their state at one moment."""
