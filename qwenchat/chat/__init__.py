"""What a chat is: messages, their tree, the prompt, the context plan, one turn. Standard library only, no I/O."""
