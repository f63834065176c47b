"""What a chat is: messages, their tree, the prompt, the context plan, one turn.

No I/O; beyond the standard library, msgspec's structs only.
"""
