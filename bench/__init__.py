"""One program per published figure, run from a checkout: `python -m bench.NAME`.  It is not installed."""
