"""What is told in `status` and in events, and when: decisions only, nothing here calls anything."""
