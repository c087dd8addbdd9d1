"""What PyTorch sees: linear layers whose products run on crossbar tiles, and the conversion of whole models."""
