"""`python -m bench [NAME ...]`: the numbers of the agent, measured on this machine, printed and kept."""
