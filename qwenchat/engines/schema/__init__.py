"""JSON Schemas that an answer must follow: what can be enforced, and what is refused."""
