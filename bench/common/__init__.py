"""What several programs share: figures, pages, timing, jobs and command lines."""
