"""Tools of MCP servers: programs by other authors, on this machine or elsewhere, none of which is trusted."""
