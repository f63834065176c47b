"""What downloads and remote engines share on the way to a server: proxies, certificates, addresses, waits."""
