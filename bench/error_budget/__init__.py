"""The error budget behind docs/results/error_budget.md."""
