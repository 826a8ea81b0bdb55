"""What a user can type: one module per command, plus the configuration that they share."""
