"""Takes the text out of files that hold more than text, in a child process with limits: such a file may be hostile."""
