"""What this machine has and what of qwenchat works on it. Looks only: nothing is repaired or sent."""
