"""What this machine has and what of qwenchat works on it. Checks only: repairs nothing, sends nothing unasked."""
