"""Facts to family: which image ran in which process, started by whom."""
