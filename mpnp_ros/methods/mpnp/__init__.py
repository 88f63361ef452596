"""The default method: gated keys and values of each modality in the upper blocks of a frozen model."""
