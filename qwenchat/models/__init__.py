"""Models: which ones exist, where they come from, and whether they fit this machine."""
