"""Checks what this machine has and what works on it. Repairs nothing, and sends nothing unless asked to."""
