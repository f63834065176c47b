"""The dialogs that open over the chat."""
