"""From what is wanted to what is there: the queue of keys, a pass for each kind, apply, heal and prune."""
