"""What does it do? One analysis a file: computes, never draws."""
