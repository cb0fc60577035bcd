"""From a flow run to a launch request: pure functions, no platform is asked."""
