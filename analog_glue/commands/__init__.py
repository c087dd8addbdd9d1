"""One straight function per command."""
