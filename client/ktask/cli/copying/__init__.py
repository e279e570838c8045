"""`ktask copy`: copies of files and trees."""
