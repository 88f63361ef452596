"""`mpnp demo`: a drive from day into night while the robot adapts."""
