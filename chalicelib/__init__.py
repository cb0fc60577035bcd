"""Prefect's agent without the process. Importing this package imports nothing else."""
