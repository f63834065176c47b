"""Which model, from where, and does it fit."""
