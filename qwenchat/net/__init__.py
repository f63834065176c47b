"""What downloads and remote engines share on the way to a server: proxies, addresses, waits. No request is sent."""
