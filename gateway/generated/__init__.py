"""What protoc made of proto/: `make proto` rewrites it, nobody edits it. See proto/README.md."""
