"""Transformers on crossbars of phase-change memory: train, program, age, compensate, score.

The package is a ladder of rooms, and each imports only what stands before it:

    errors progress seeding hub download settings     the ground
    runs                                              a run on disk: its rows, files, folder, identity
    configuration                                     from words to checked settings and built components
    kernels devices tiles nn                          the signal through phase-change memory
    tasks models training evaluation costs            what is trained and scored on it, and what it takes
    reports commands                                  tables and figures; train, evaluate, a dry run of either
    in_situ                                           the second wing: the same rooms for training on pulsed devices
    verify cli                                        published measurements; the command line

`tests/test_architecture.py` holds the order. Nothing is imported here, so `analog-glue --help` is quick.
"""

__version__ = "0.2.0.dev0"
