"""The door for other programs: OpenAI's HTTP interface to the model that is loaded. Nothing that is asked is logged."""
