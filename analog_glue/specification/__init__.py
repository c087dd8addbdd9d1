"""Which device would do: how much of a non-ideality a network bears: what is turned, and how far."""
