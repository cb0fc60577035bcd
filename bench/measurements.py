"""What can be measured, by name; each is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module

from bench.results import Measurement

PLACES = {
    "start": "start:MEASUREMENT",
    "drain": "drain:DRAIN",
    "drain-per-field": "drain:PER_FIELD",
    "kubernetes": "kubernetes:DRAIN",
    "kubernetes-per-field": "kubernetes:PER_FIELD",
    "kubernetes-cuts": "kubernetes:CUTS",
    "kubernetes-sweep": "kubernetes:SWEEP",
    "pools": "work_pools:POOLS",
    "limits": "limits:MEASUREMENT",
    "lateness": "lateness:MEASUREMENT",
    "pools-lateness": "pool_lateness:MEASUREMENT",
    "idle": "idle:MEASUREMENT",
    "kills": "kills:MEASUREMENT",
    "pools-kills": "work_pools:KILLED",
    "pools-online": "work_pools:ONLINE",
    "pool-growth": "pool_growth:MEASUREMENT",
    "growth": "growth:GROWTH",
    "memory": "growth:MEMORY",
    "alive": "growth:ALIVE_RUNS",
    "outcomes": "outcomes:MEASUREMENT",
    "wake": "ticks:WAKE",
    "scheduled": "ticks:SCHEDULED",
    "batch": "ticks:BATCH",
}
"""Module of `bench` and constant, in the order of the page."""


def measurement_of(name: str) -> Measurement:
    """The measurement of this name. Raises KeyError when there is none."""
    module, constant = PLACES[name].split(":")
    measurement = getattr(import_module(f"bench.{module}"), constant)
    if not isinstance(measurement, Measurement):
        raise TypeError(f"{module}.{constant} is no measurement")
    return measurement
