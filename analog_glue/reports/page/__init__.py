"""One page for a browser: what `tables` writes, to be sorted, hovered and followed to the run of every number."""
