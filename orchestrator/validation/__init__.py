"""Every input mistake, found before any work starts."""
