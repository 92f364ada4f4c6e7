"""Programs of libraries that use `distributed`; each notes facts, equal on both engines."""
