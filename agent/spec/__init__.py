"""DeploySpec bytes to a resolved Service."""
