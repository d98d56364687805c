"""A Kubernetes API server for tests: objects with versions, list and watch as the real one has them, and faults on demand."""
