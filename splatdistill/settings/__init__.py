"""From wishes to a checked configuration: recipes, files, and options typed, in layers. No console, and no viewer."""
