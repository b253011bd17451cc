"""Where specs come from, read as one moment."""
