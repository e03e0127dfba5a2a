"""Registration: stages, engines behind one protocol, transforms."""
