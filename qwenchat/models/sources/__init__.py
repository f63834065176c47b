"""Sources of model files: hubs, their mirrors, URLs and folders."""
