"""Sessions on disk: the store, search, trash, recovery, export and import."""
