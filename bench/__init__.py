"""Measures the agent against the bare engine, its peers and its budgets: `python -m bench` or `make bench`."""
