"""The platforms that flow runs are started on, one module each, and what they share."""
