-- The context window that a session asks for, in tokens; NULL follows the settings.

ALTER TABLE sessions ADD COLUMN context INTEGER;
