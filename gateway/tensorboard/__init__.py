"""What TensorBoard reads: event files with scalars, text and graphs, and the files of its profile plugin.

Event files are written by tensorboardX, which is optional, so it is imported only where a file is opened.
"""
