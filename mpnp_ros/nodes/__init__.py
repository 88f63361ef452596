"""One thin module per node, and what the nodes share."""
