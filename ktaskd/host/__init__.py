"""The only room that touches /proc, /sys and the kernel's calls."""
