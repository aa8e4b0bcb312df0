"""Taskyard's GraphQL: types, operations and the ASGI app that serves them."""
