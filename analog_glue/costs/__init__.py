"""What a model costs on an accelerator: operations, tiles, and from published numbers latency, energy and area."""
