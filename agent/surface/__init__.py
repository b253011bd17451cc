"""What people and machines see of the agent: metrics, HTTP, the local socket."""
