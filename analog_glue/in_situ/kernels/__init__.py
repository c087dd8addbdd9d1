"""Compiled loops of in-situ training, and the plain references that tests hold them to."""
