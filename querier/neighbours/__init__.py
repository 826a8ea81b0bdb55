"""Who asked the like: query clusters, nearest pool dialogues and contrast users, on numpy arrays alone."""
