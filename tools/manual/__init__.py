"""Man pages, completions of shells and pages of reference, written from the parsers and other sources."""
