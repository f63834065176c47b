"""Three levels of reading: what finds the passages of documents that matter to a question."""
