"""Streets, traffic and people of the world, and what is where at one moment."""
