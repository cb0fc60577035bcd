"""The command line, `prefect-agent`."""
