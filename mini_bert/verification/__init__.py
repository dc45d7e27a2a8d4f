"""Is it right? Gradients beside derivatives that nobody derived, results beside loops that transcribe definitions."""
