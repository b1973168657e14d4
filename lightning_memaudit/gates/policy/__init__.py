"""What a build is held to: policies, their file format, selectors of groups, and their explanation."""
