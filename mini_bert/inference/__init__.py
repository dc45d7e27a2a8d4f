"""What does a model make of a text? Rows of ids in, hidden states, embeddings and log-likelihoods out."""
