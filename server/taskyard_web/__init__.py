"""Where Taskyard is composed: the ASGI app and the command line."""
