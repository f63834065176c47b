"""The guide: a small model that knows this program, and all that it is made with.

The program itself uses the GGUF file beside this and nothing else from here. Training needs the extra `guide`.
"""
