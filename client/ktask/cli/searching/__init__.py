"""`ktask search`: lines that match a pattern."""
