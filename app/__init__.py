"""The program: settings, wiring, the ASGI app, authentication, the REST shim, GraphiQL, the command line."""
