"""A server to start here, a client of servers, and by what names and protocols they speak."""
