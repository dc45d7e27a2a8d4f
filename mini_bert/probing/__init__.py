"""What does it know? One task a file: the model's answers beside the controls that give a number its meaning."""
