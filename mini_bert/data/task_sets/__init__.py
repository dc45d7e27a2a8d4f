"""Task sets as they are published, read into examples; one format a file. A trained model is tried on them."""
