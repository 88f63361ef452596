"""The frozen language model: weights, blocks, prefix attention, choices and generation."""
