"""Networks that learn on pulsed devices: runs, extraction, what altered weights cost, deployment on other chips."""
