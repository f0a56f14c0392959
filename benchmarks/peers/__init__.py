"""`peers`: the same weights and conversations through other ways and other servers, each in an environment of its own."""
