"""The questions of NuScenes-QA (arXiv:2305.14836): vocabulary, wordings, and answers from key frames."""
