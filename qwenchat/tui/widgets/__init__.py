"""Parts of screens. Each knows what it shows and says what a person wants; none knows store or engine."""
