"""A crossbar tile with its periphery. Weights are normalised to [−1, 1]; rows are inputs (DACs), columns outputs (ADCs)."""
