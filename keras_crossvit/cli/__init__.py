"""Commands of the command line, a module each: HELP, EXAMPLES, add_arguments(parser) and run(arguments)."""
