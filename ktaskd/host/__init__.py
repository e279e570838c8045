"""The only package that touches /proc, /sys and the kernel's calls."""
