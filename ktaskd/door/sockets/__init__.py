"""The public sockets: the directory that they are in, and accepting on them."""
