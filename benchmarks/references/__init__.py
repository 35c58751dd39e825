"""What one would write by hand in place of the gateway: the servers that its figures are set against."""
