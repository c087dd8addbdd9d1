"""Data and the official score, one file per kind of task."""
