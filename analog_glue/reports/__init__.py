"""What runs left behind, as tables and figures with the published numbers beside them. No torch."""
