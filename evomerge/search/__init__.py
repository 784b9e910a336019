"""The search: the loop, the ledger, baselines, workers, and what a run directory shows."""
