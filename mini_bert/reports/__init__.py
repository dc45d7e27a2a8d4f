"""Results as tables, pictures and pages: what is drawn here was computed elsewhere."""
