"""Commands of the command line, a module each: HELP, add_arguments(parser) and run(arguments)."""
