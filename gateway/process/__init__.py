"""Utilities of the gateway's processes: channels, child processes, addresses, open files, cores, memory."""
