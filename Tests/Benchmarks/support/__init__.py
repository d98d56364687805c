"""What the benchmark's sections share."""
