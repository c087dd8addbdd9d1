"""Tuning after training."""
