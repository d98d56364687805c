"""Code for the end-to-end tests, the demo and the benchmarks: nodes, agents and pods on a simulated VPC."""
