"""LaVIN's mixture-of-modality adaptation."""
