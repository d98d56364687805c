"""A Kubernetes API server for tests: versioned objects, list and watch like the real server, and fault injection."""
