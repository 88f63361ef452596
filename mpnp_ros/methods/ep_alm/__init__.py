"""eP-ALM."""
