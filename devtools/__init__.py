"""What the project is built with and does not run with: the catalogue of strings, pages, pictures, the manual page."""
