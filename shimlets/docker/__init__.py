"""Services as containers of a Docker engine."""
