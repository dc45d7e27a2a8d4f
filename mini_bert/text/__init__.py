"""Characters to token ids: normalisation, the WordPiece tokenizer and the trainer of its vocabulary."""
