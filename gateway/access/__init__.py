"""Who clients are and what they may do: the operator's files, read by the supervisor, and the fronts' use of them."""
