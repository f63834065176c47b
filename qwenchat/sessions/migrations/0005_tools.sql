-- Whether the model of a session may call tools: 1 or 0; NULL follows the settings.

ALTER TABLE sessions ADD COLUMN tools INTEGER;
