"""The mpnp command: one module per subcommand."""
