"""Formats that tensors, images and bodies are written in, whoever reads them: fronts, commands, exports."""
