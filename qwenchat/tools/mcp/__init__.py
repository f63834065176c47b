"""Tools of MCP servers: programs of others that run beside this one or elsewhere, and that nothing is trusted of."""
