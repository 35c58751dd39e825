"""Models in a program's own workers, without a server: modelport.load (docs/embedded.md)."""
