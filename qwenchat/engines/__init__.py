"""A prompt in, tokens out: the engines that answer, here or elsewhere."""
