"""Links that answer about own motion and sounds: their training, and their figures."""
