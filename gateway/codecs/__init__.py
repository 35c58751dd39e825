"""The formats of tensors, images and bodies, for fronts, commands and exports."""
