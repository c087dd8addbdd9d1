"""The tables and figures of in-situ runs."""
