"""Time from a sensor and from a question to the answer."""
