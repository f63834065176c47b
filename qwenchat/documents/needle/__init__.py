"""The needle test: whether a model finds single facts in long texts, by the length of the text and the facts' depth."""
