"""The systems outside: one module for each, so that an asset only says what happens and in which order."""
