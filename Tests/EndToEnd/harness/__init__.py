"""What the end-to-end tests, the demo and the benchmarks share: nodes, agents and pods on a simulated VPC."""
