"""Ranges and scales around trained weights, tuned after training: no gradient, no change to the network."""
