"""The documentation as a site: pages of the repository, and pages made from the code. Knows no mkdocs but in two files."""
