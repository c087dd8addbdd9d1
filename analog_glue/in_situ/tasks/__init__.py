"""Data and networks that learn in situ."""
