"""What a conversation is: its tree, its prompt, its window, one turn. Standard library only, no I/O."""
