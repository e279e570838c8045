"""Native functions: built by the compiler, declared by a manifest, called by workers."""
