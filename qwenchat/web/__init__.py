"""The screen in a browser: who may open it, and one program for each tab."""
