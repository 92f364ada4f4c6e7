"""Helpers for those who test programs and libraries against taskloom."""
