"""What executions took: time by step, and CPU, memory and I/O."""
