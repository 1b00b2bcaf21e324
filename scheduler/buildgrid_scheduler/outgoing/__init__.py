"""What all calls to other services have in common: they are bounded, and their failures stay theirs."""
