"""One program per published figure."""
