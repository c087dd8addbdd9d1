"""From the words of the command line to checked settings and built components; the command line aside, alone to know Hydra."""
