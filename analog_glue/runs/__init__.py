"""A run on disk: its folder and files, what identifies it, where it comes from, its rows."""
