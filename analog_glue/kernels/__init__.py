"""Fast paths and their plain references: arrays in, arrays out; knows no tile."""
