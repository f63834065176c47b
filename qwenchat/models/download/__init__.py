"""Downloads of models: `plan` -> `pull` -> `transfer` -> `http`; they share `part`, `retry` and `progress`."""
