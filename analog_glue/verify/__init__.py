"""The simulated devices and tiles held against published measurements, and against aihwkit."""
