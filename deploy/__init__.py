"""From a clone to a running agent, and back: `python -m deploy up|plan|down|package --stage <stage>`."""
