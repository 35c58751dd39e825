"""Models from object stores, web servers and Hugging Face, in a cache on this machine's disk (docs/remote.md)."""
