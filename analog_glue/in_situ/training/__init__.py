"""Algorithms that train on pulsed devices, one mode a file, and the loop that they share."""
