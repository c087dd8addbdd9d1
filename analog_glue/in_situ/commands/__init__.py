"""One straight function per command of in-situ training."""
