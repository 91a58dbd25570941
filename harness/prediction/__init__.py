"""From a user's pictures to names: which files are meant, how they come to a network's size, what it says of each."""
