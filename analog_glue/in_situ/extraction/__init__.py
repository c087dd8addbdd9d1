"""Weights out of analog arrays by noisy products, and how sure they are."""
