"""What the supervisor and the fronts both speak of: requests, models, regions, and checks of tensors."""
