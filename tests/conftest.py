"""How Hypothesis looks for cases that break a rule: the same ones in every check, others in `make soak`."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# No check may fail by chance, of what it draws or of how busy the machine is.
settings.register_profile("same", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile(
    "anew", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=500, print_blob=True
)
settings.load_profile("same")
