"""Engines on other machines, or in other programs on this one, reached over HTTP."""
