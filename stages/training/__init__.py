"""Train networks and heads; resume a training that was killed."""
