"""What happens because time passed. Every replica runs these; work is claimed, never repeated."""
