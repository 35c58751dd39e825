"""What all child processes have in common: their lines reach the log, under their name."""

import asyncio
import logging


async def pump_lines(stream: asyncio.StreamReader, log: logging.Logger) -> None:
    """Until the process has closed its output."""
    while True:
        try:
            line = await stream.readline()
        except ValueError:
            continue  # longer than the reader's buffer: that line is lost, the next is read
        if not line:
            return
        if text := line.decode(errors="replace").rstrip():
            log.info("%s", text)
