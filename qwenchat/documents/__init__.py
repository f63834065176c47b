"""Documents: files become text, pages and chunks; an index finds them, and a model reads them at length."""
