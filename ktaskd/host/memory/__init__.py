"""Memory: free, mapped, cached, and the node that it is on."""
