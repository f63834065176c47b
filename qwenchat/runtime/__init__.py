"""What the screen, the command line and a server share: composition, the loaded model, chats, downloads. No Textual."""
