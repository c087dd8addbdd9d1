"""How the weights come about: one mode a file."""
