"""Parts of screens. Each shows what it is given and posts what the user wants; none knows the store or an engine."""
