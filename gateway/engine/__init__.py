"""From a decoded request to a decoded answer: admission, queue, routes, workers, retry, record."""
