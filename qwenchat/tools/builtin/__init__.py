"""The tools that come with the program, one module each. They need no server and no program beside this one."""
