"""Set-ups that run as they are, and check what comes of it. From the project's folder."""
