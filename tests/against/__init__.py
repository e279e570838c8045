"""Every function against an independent tool, on the same real files."""
