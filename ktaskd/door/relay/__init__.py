"""The relay in front of gRPC: one connection dialled to gRPC for each client's."""
