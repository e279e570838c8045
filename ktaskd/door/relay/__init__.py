"""The relay in front of gRPC."""
