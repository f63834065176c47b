"""The tools that qwenchat brings along."""
