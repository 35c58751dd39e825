"""From what is wanted of the repository to workers that run: policy, devices, processes."""
