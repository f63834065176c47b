"""Models on their way here: planned, pulled, transferred, verified."""
