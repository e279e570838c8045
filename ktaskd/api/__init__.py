"""gRPC in, our words inside, gRPC out. No rule of its own."""
