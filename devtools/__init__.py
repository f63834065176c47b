"""Build tools, which the program does not need to run: catalogues of strings, pages, pictures, the manual page."""
