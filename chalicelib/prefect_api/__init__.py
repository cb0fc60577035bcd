"""The Prefect APIs, one port for both generations: everything that is sent to or read from Prefect."""
