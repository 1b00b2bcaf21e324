"""Every call of the API server: one small synchronous client, with timeouts, counted, and typed errors."""
