"""Images that the project makes itself."""
