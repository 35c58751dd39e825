"""What a process of the gateway is made of: channels, children, addresses, files, cores, memory."""
