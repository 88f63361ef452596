"""mPnP-LLM as published, to compare with."""
