"""Files that modelport score reads, as chunks of rows."""
