"""What is told to whoever looks after the farm: the replicas, and what waits for which bots."""
