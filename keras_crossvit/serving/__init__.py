"""Servers and their clients: what TensorFlow Serving needs beside a model, a server to start here, calls to both."""
