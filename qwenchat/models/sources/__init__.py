"""Where model files come from: hubs, their mirrors, URLs and folders."""
