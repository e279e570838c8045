"""The contract that client and daemon share. Importing it loads no client code."""
