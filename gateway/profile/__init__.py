"""`modelport profile`: measures a model in batches of several sizes and with several numbers of threads."""
