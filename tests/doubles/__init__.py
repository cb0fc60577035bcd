"""Small stateful servers that stand for what the agent talks to, and the things that tests turn by hand."""
