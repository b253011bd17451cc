"""xmod-agent: makes a host run exactly the model services that a folder of DeploySpecs describes."""

__version__ = "0.1.0"
