"""One thread for torch in every test: sums are then the same on every machine, and small ones are quicker."""

import torch

torch.set_num_threads(1)
