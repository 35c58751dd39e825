"""Handwritten alternatives to the gateway: the servers with which its figures are compared."""
