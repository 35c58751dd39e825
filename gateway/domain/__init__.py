"""The types that supervisor and fronts share: requests, models, control verbs, regions, checks of tensors."""
