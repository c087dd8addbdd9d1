"""Devices that learn: every voltage pulse moves their conductance by a small step up or down."""
