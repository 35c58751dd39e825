"""The HTTP transport: uvicorn's server and protocol, with hot requests answered where they are parsed."""
