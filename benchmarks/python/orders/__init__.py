"""What the driver orders, and how it is done and timed: the same for every system."""
