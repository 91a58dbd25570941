"""Which images: what is known of each data set, and where its images come from."""
