"""The loop: one step, many steps, and what must survive when the machine does not."""
