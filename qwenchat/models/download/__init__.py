"""Downloads of models: `plan`, `pull`, `transfer`, `http` in this order; beside them `part`, `retry`, `progress`."""
