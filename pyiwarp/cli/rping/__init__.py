"""rping's protocol (librdmacm's example program): `limits` and `protocol`, then the `client` and the `server` of it."""
