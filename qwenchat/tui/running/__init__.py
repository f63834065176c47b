"""What runs behind the screen, in parts: `chats.Chats` puts them together. No Textual here."""
