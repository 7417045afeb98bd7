"""Configuration files: their lines, their values and faults, secrets, the environment, the schema."""
