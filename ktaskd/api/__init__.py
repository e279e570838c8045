"""gRPC in, our own types inside, gRPC out. No rule of its own."""
