"""The default method on a language model that goes without some of its attentions."""
