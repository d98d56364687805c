"""A VPC on one machine: moto's EC2, IMDS, and network namespaces as instances. See ../README.md."""
