"""One folder per modality: configuration, preprocessing, encoder, registration."""
