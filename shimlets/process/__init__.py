"""The process shimlet: plain programs of this host."""
